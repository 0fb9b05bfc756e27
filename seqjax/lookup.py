"""The file system is the registry: a name in a config is a file in a package."""

import difflib
import importlib
import importlib.util
import pkgutil

from seqjax.types import ConfigError

LONG = 60  # characters of a name that a message shows


def names(package: str) -> list[str]:
    """The names that a package offers: its modules, without the `_private` ones."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def listed(names, most: int = 20) -> str:
    """`a, b, c and 29,997 more`: names for a message, not more of them than one can read, and none too long."""
    texts = [text if len(text) <= LONG else f"{text[: LONG - 3]}..." for text in map(str, names)]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def nearest(name: str, known) -> str:
    """` Did you mean 'x'?`, or nothing if no known name is near."""
    short = [text for text in map(str, known) if len(text) <= LONG]  # the time grows with the square of a length
    near = difflib.get_close_matches(str(name)[:LONG], short, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def find(spec: str, package: str, symbol: str):
    """The object that a name stands for.

    `gru` is `<package>.gru.<symbol>`; `rnn:GRU` picks another class of that file; `my.module:Thing` and
    `mine:Thing` are outside code.

    Raises:
      ConfigError: no such file, or no such class in it; names the nearest. Outside code cannot be imported.
    """
    module, _, attribute = spec.partition(":")
    known = names(package)
    if module in known:
        found = importlib.import_module(f"{package}.{module}")
    elif ("." in module or attribute) and _exists(module):
        found = _outside(module)
    elif "." in module:
        raise ConfigError(f"no module {module!r}; it must be importable (is its folder on PYTHONPATH?).")
    else:
        path = f" Nor can {module!r} be imported (is its folder on PYTHONPATH?)." if attribute else ""
        raise ConfigError(f"no {module!r} in {package}.{nearest(module, known)} It has: {', '.join(known)}.{path}")
    attribute, module = attribute or symbol, found.__name__
    if not hasattr(found, attribute):
        public = [n for n in vars(found) if not n.startswith("_")]
        raise ConfigError(f"no {attribute!r} in {module}.{nearest(attribute, public)}")
    return getattr(found, attribute)


def _exists(module: str) -> bool:
    if "" in module.split("."):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:  # a package around it is not there, or lacks something itself
        return not module.startswith(f"{error.name}.")
    except Exception:  # a package around it fails: importing it says how
        return True


def _outside(module: str):
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise ConfigError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error


def summary(package: str, name: str, symbol: str) -> str:
    """The one-line description of a name: the first line of its class's docstring."""
    return (find(name, package, symbol).__doc__ or "").strip().split("\n")[0]


def require(module: str, extra: str, purpose: str):
    """Imports an optional dependency, or says which extra brings it.

    Raises:
      ConfigError: the package is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        why = "is not installed" if missing else f"cannot be imported ({error})"
        raise ConfigError(
            f"{purpose} needs {module}, which {why}: pip install 'seqjax[{extra}]', or in a checkout of seqjax "
            f"pip install -c constraints.txt -e '.[{extra}]'."
        ) from error
