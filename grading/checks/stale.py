"""Tell which files have changed since they were imported."""

import inspect
import sys
from pathlib import Path
from types import CodeType, ModuleType

WATCHED = ("gpt2", "optim", "exercises")


def changed_files() -> list[str]:
    """Return the files of whose functions one is loaded that does not stand there any more."""
    modules = [each for name, each in sys.modules.items() if name.split(".")[0] in WATCHED]
    paths = {Path(each.__file__): each for each in modules if getattr(each, "__file__", None)}
    changed = [path for path, each in paths.items() if not _loaded(each) <= _written(path)]
    return sorted("/".join(path.parts[-2:]) for path in changed)


def _loaded(module: ModuleType) -> set[CodeType]:
    """Return the code of a module's functions, and of its classes' methods and properties."""
    values = list(vars(module).values())
    for each in [value for value in values if inspect.isclass(value)]:
        values += [getattr(value, "fget", value) for value in vars(each).values()]
    codes = [getattr(inspect.unwrap(value), "__code__", None) for value in values]
    codes = [code for code in codes if isinstance(code, CodeType)]
    return {_anywhere(code) for code in codes if code.co_filename == module.__file__}


def _anywhere(code: CodeType) -> CodeType:
    """Return the code without its place in the file, which %autoreload does not keep."""
    consts = (_anywhere(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    nowhere = {"co_firstlineno": 1, "co_linetable": b"", "co_qualname": code.co_name}
    return code.replace(co_consts=tuple(consts), **nowhere)


def _written(path: Path) -> set[CodeType]:
    try:
        codes = [compile(path.read_bytes(), path, "exec", dont_inherit=True)]
    except (OSError, SyntaxError, ValueError):
        return set()
    for code in codes:  # which grows
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(map(_anywhere, codes))
