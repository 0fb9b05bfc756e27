"""A page is a list of elements: both renderers know every kind, escape its text, and leave out what has no content."""

from types import SimpleNamespace

import pytest
from test_report import Page

from seqjax.report import html, markdown
from seqjax.report.document import (
    Beside,
    Cell,
    Code,
    Column,
    Commands,
    Figure,
    Fold,
    Header,
    Number,
    Sample,
    Section,
    Text,
    table,
)

RUN = SimpleNamespace(name="<run>", index=0)
COLUMNS = {Column("<key>"): lambda item: f"<{item}>", Number("<value>", "<group>"): lambda item: Cell("<n>", "<note>")}
TABLE = table("<caption>", ["a", "b"], COLUMNS, run=lambda item: 0)
ELEMENTS = [
    (Header("<title>", "<headline>", ["<note>"]), ["<title>", "<headline>", "<note>"]),
    (Section("<title>", (Text("<text>"),)), ["<title>", "<text>"]),
    (Fold("<title>", (Text("<text>", soft=True),)), ["<title>", "<text>"]),
    (Code("<code>", "json"), ["<code>"]),
    (Commands(("<one>", "<two>")), ["<one>", "<two>"]),
    (Sample("<prompt>", "<text>", "<how>"), ["<prompt>", "<text>", "<how>"]),
    (Beside(((RUN, (Text("<text>"),)),)), ["<run>", "<text>"]),
    (TABLE, ["<key>", "<group>", "<value>", "<a>", "<b>", "<n>", "<note>"]),
]


@pytest.mark.parametrize(("element", "texts"), ELEMENTS, ids=lambda x: type(x).__name__)
def test_both_renderers_show_the_texts_of_an_element(element, texts):
    whole = markdown.page([element]).replace("\\", "").replace("&lt;", "<").replace("&gt;", ">")
    shown = Page(html.page("<page>", [element])).text
    for text in texts:
        assert text in shown and text in whole


def test_a_figure_is_shown_with_its_legend_and_not_in_markdown():
    figure = Figure(["<svg></svg>", None], "<caption>", [RUN])
    page = Page(html.page("", [figure]))
    assert "<run>" in page.text and "<caption>" in page.text and page.tags.count("svg") == 2  # one is the legend's
    assert markdown.page([Section("A", [figure])]) == "\n"


@pytest.mark.parametrize("renderer", [html.Html(), markdown.Markdown()])
def test_what_has_no_content_is_left_out(renderer):
    empty = [Figure([None], "caption"), Commands([]), Beside([]), Fold("a", []), Section("b", [Fold("c", [])])]
    assert renderer.join(empty) == ""
    with pytest.raises(TypeError, match="wanted an element"):
        renderer.join(["a string"])
