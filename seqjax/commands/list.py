"""seqjax list."""

ABOUT = "Show every name that a config may use: mixers, embeddings, heads, models, tasks and so on, or one kind."
EXAMPLES = """\
  seqjax list
  seqjax list mixers"""
KINDS = {
    "mixers": ("seqjax.mixers", "Mixer"),
    "embeddings": ("seqjax.embed", "Embed"),
    "emissions": ("seqjax.emissions", "Emission"),
    "heads": ("seqjax.heads", "Head"),
    "models": ("seqjax.models", "Model"),
    "tasks": ("seqjax.tasks", "Task"),
    "learners": ("seqjax.training.learners", "Learner"),
    "tokenizers": ("seqjax.tokenizers", "Tokenizer"),
    "sources": ("seqjax.data", "Source"),
    "decoders": ("seqjax.decoding", "Decoder"),
    "evaluators": ("seqjax.evaluators", "Evaluator"),
}


def options(parser) -> None:
    """The options of the command."""
    parser.add_argument("kind", nargs="?", choices=list(KINDS), help="only this kind")


def run(args) -> None:
    """Prints one table per kind, or per family of a kind that has families."""
    from rich.table import Table

    from seqjax import lookup
    from seqjax.training import progress

    console = progress.console()
    for kind, (package, symbol) in KINDS.items():
        if args.kind not in (None, kind):
            continue
        for title, names in families(kind).items():
            table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
            for name in names:
                table.add_row(f"  {name}", lookup.summary(package, name, symbol))
            console.print(table)
            console.print()


def families(kind: str) -> dict[str, list[str]]:
    """The names of a kind, under its title: `{"embeddings": [...]}`, `{"mixers: attention": [...], ...}`."""
    from seqjax import lookup

    package, symbol = KINDS[kind]
    found = {}
    for name in lookup.names(package):
        family = getattr(lookup.find(name, package, symbol), "family", None)
        found.setdefault(f"{kind}: {family}" if family else kind, []).append(name)
    return dict(sorted(found.items()))
