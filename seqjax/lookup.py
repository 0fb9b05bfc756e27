"""Finds what a name in a config stands for. The file system is the registry: each name is a file in a package."""

import contextlib
import difflib
import importlib
import importlib.machinery
import logging
import os
import pkgutil
import sys

from seqjax.screen import shown
from seqjax.types import ConfigError

LONG = 60  # characters of a name that a message shows
log = logging.getLogger(__name__)


def names(package: str) -> list[str]:
    """The names that a package offers: its modules, without the `_private` ones."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def listed(names, most: int = 20) -> str:
    """`a, b, c and 29,997 more`: names for a message, at most `most` of them, the long ones cut."""
    texts = [text if len(text) <= LONG else f"{text[: LONG - 3]}..." for text in map(str, names)]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def nearest(name: str, known) -> str:
    """` Did you mean 'x'?`, or nothing if no known name is similar."""
    short = [text for text in map(str, known) if len(text) <= LONG]  # the time grows with the square of the length
    near = difflib.get_close_matches(str(name)[:LONG], short, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def find(spec: str, package: str, symbol: str):
    """The object that a name stands for.

    `gru` is `<package>.gru.<symbol>`; `rnn:GRU` picks another class of that file; `my.module:Thing` and
    `mine:Thing` are code outside seqjax.

    Raises:
      ConfigError: the file or the class does not exist (the error names the nearest), or the import fails.
    """
    module, _, attribute = spec.partition(":")
    known = names(package)
    if module in known:
        found = importlib.import_module(f"{package}.{module}")
    elif ("." in module or attribute) and (own := outside(module)):
        found = own
    elif "." in module:
        raise ConfigError(f"no module {shown(module)}; it must be importable (is its folder on PYTHONPATH?).")
    else:
        path = f" {shown(module)} cannot be imported either (is its folder on PYTHONPATH?)." if attribute else ""
        raise ConfigError(f"no {shown(module)} in {package}.{nearest(module, known)} It has: {', '.join(known)}.{path}")
    attribute, module = attribute or symbol, found.__name__
    if not hasattr(found, attribute):
        public = [n for n in vars(found) if not n.startswith("_")]
        where = "" if module.startswith(f"{package}.") else f" This module is {_file(found)}."
        raise ConfigError(f"no {attribute!r} in {module}.{nearest(attribute, public)}{where}")
    return getattr(found, attribute)


class _Here:
    """Searches the current folder for modules after all other places, so that it never hides an installed module."""

    def find_spec(self, name, path=None, target=None):
        with contextlib.suppress(FileNotFoundError):  # the folder is gone
            return importlib.machinery.PathFinder.find_spec(name, [os.getcwd()]) if path is None else None


@contextlib.contextmanager
def running(what: str, hint: str = ""):
    """Wraps user code while it is imported or called. The code may import from the current folder.

    Raises:
      ConfigError: the code failed or tried to end the process; the error ends with `hint` if a key was not found.
    """
    here = _Here()
    sys.meta_path.append(here)
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ConfigError(f"{what}: {told(error)}{hint if isinstance(error, LookupError) else ''}") from error
    finally:
        sys.meta_path.remove(here)


def told(error: BaseException) -> str:
    """Describes an error of user code in a sentence."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code!r}), which would end the process: remove the call."
    return f"{type(error).__name__}: {error}"


_imported: dict[str, str] = {}  # module of user code -> its file


def outside(module: str):
    """Imports a module that a config names, and logs this once; returns None if there is no such module.

    Raises:
      ConfigError: the import fails.
    """
    if not all(map(str.isidentifier, module.split("."))):
        return None
    with running(f"{module} cannot be imported"):
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if f"{module}.".startswith(f"{error.name}."):
                return None
            raise
    if module not in _imported and not module.startswith("seqjax."):
        _imported[module] = _file(found)
        log.info("imported %s from %s", module, _imported[module])
    return found


def imported() -> list[str]:
    """The outside modules that configs have named so far. Child processes import them first."""
    return list(_imported)


def _file(module) -> str:
    return getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ["Python itself"])))


def summary(package: str, name: str, symbol: str) -> str:
    """The one-line description of a name: the first line of its class's docstring."""
    return (find(name, package, symbol).__doc__ or "").strip().split("\n")[0]


def require(module: str, extra: str, purpose: str):
    """Imports an optional dependency; the error says which extra installs it.

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
