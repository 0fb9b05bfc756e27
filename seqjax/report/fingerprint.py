"""Writes fingerprints as pages: one per mixer, and one of all side by side; each HTML file is self-contained."""

import json
from pathlib import Path

from seqjax.report import elements, fingerprint_figures, fingerprint_tables, fingerprint_words, markdown
from seqjax.report import page as page_lib
from seqjax.report.elements import fold, section, table, text
from seqjax.report.fingerprint_measured import Measured, factors, measured, probes, title
from seqjax.training import files

HEAT = "td[class*=heat] small { color: inherit; }\n" + "".join(
    f".heat{i} {{ background: rgb(11 122 209 / {0.045 * i:.3f}); print-color-adjust: exact; }}\n" for i in range(1, 11)
)


def write(workdir: Path, trees: list[dict]) -> Path:
    """Writes `<mixer>.html` and `.md` for each fingerprint, and `index.html` and `.md` of all; returns index.html.

    The same fingerprints always give the same bytes.

    Raises:
      WorkdirError: a fingerprint is incomplete, or the folder cannot be written.
    """
    marks = measured(trees)
    pages = {mark.name: (one(mark), one_markdown(mark)) for mark in marks}
    pages["index"] = together(marks), together_markdown(marks)
    for name, (html, text_) in pages.items():
        _save(Path(workdir) / f"{name}.md", text_)
        path = _save(Path(workdir) / f"{name}.html", html)
    return path


def one(mark: Measured) -> str:
    """The page of one mixer."""
    tables, figures = fingerprint_tables, fingerprint_figures
    notes = "".join(f"<li>{text(note)}</li>" for note in fingerprint_words.notes(mark))
    longer = figures.lengths(mark)
    panels = [figures.dots(mark), *([longer] if longer else [])]
    caption = "Test accuracy" + "; skill at multiples of the trained length (dashed: chance)" * bool(longer) + "."
    body = [
        f"<header>\n<h1>{text(f'Fingerprint of {mark.name}')}</h1>",
        f'<p class="headline">{text(fingerprint_words.headline(mark))}</p>',
        f'<ul class="notes">{notes}</ul>\n</header>',
        _figure(panels, caption),
        section("Probes", table(tables.scores(mark), "wide")),
        section(
            "Time and memory",
            _figure(figures.costs(mark), _timed(mark)) + table(tables.costs(mark)),
        ),
        section("Configs", "".join(_configs(mark))),
        section(
            "Run it again, in the folder of this page",
            "".join(_command(line) for line in fingerprint_words.commands(mark)),
        ),
        section("How it ran", fold("Hardware and versions", table(tables.machines([mark])))),
    ]
    return _page(f"Fingerprint of {mark.name}", body)


def together(marks: list[Measured]) -> str:
    """The page of all mixers."""
    tables, figures = fingerprint_tables, fingerprint_figures
    body = ["<header>\n<h1>Fingerprints</h1>"]
    body.append(f'<ul class="notes">{"".join(f"<li>{text(line)}</li>" for line in _lines(marks))}</ul>\n</header>')
    for factor in _factors(marks):
        content = tables.side_by_side(marks, factor)
        body.append(section(content.caption, table(content, "wide")))
    if panels := figures.multiples(marks):
        caption = "Skill against length, in multiples of the trained length. Dashed: chance."
        body.append(section("Longer than trained", elements.figure(panels, marks, caption)))
    caption = " ".join(dict.fromkeys(_timed(mark) for mark in marks))
    body.append(section("Time and memory", elements.figure(figures.costs_together(marks), marks, caption)))
    body.append(section("How they ran", fold("Hardware and versions", table(tables.machines(marks)))))
    return _page("Fingerprints", body)


def one_markdown(mark: Measured) -> str:
    """The document of one mixer."""
    tables = fingerprint_tables
    parts = [
        f"# Fingerprint of {markdown.text(mark.name)}",
        f"**{markdown.text(fingerprint_words.headline(mark))}**",
        "\n".join(f"- {markdown.text(note)}" for note in fingerprint_words.notes(mark)),
        markdown.table(tables.scores(mark)),
        "## Time and memory",
        markdown.text(_timed(mark)),
        markdown.table(tables.costs(mark)),
        "## Run it again, in the folder of this page",
        markdown.fence("\n".join(fingerprint_words.commands(mark)), "sh"),
        "## How it ran",
        markdown.table(tables.machines([mark])),
    ]
    return "\n\n".join(parts) + "\n"


def together_markdown(marks: list[Measured]) -> str:
    """The document of all mixers."""
    tables = fingerprint_tables
    parts = ["# Fingerprints", "\n".join(f"- {markdown.text(line)}" for line in _lines(marks))]
    for factor in _factors(marks):
        content = tables.side_by_side(marks, factor)
        parts += [f"## {content.caption}", markdown.table(content)]
    parts += ["## Time and memory"]
    for mark in marks:
        parts += [f"### {markdown.text(mark.name)}", markdown.table(tables.costs(mark))]
    parts += ["## How they ran", markdown.table(tables.machines(marks))]
    return "\n\n".join(parts) + "\n"


def _lines(marks: list[Measured]) -> list[str]:
    """One sentence per mixer, and a warning if their numbers are not comparable."""
    lines = [fingerprint_words.headline(mark) for mark in marks]
    if len({mark.tree["tier"] for mark in marks}) > 1:
        tiers = ", ".join(f"{mark.name} {mark.tree['tier']}" for mark in marks)
        lines.append(f"The tiers differ, so the probes are not the same: {tiers}.")
    if len({json.dumps(mark.tree["hardware"], sort_keys=True) for mark in marks}) > 1:
        lines.append("The hardware differs, so times are not comparable.")
    return lines


def _factors(marks: list[Measured]) -> list[int]:
    return sorted({f for name in probes(marks) for f in factors(marks, name)})


def _timed(mark: Measured) -> str:
    """How time and memory were measured."""
    tree = mark.tree
    return (
        f"Model size as in the probes, batch size {tree['rows']}, {tree['hardware']['device_kind']}. Times are "
        "medians; temporaries are from XLA's memory analysis; the state is that of one row."
    )


def _configs(mark: Measured):
    for name, record in mark.probes.items():
        whole = json.dumps(record["config"], indent=2, ensure_ascii=False)
        yield fold(f"{title(name)}: the whole config", f"<pre>{text(whole)}</pre>")


def _figure(panels: list[str], caption: str) -> str:
    """A figure whose panels have their own legends."""
    whole = "\n".join(panels)
    return f'<figure>\n<div class="panels two">\n{whole}\n</div>\n<figcaption>{text(caption)}</figcaption>\n</figure>'


def _command(line: str) -> str:
    return f'<div class="command"><pre><code>{text(line)}</code></pre></div>\n'


def _page(title: str, body: list[str]) -> str:
    return page_lib.page(text(title), "\n".join(body)).replace("</style>", f"{HEAT}</style>", 1)


def _save(path: Path, content: str) -> Path:
    files.write(path.absolute(), content.encode())
    return path
