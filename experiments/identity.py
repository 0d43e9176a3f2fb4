"""Digest the code that decides a run's numbers: changed code is another run."""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from torch import nn

import gpt2
from utils import fingerprint

# Text generation and token counts decide no number of a training run or its evaluation.
UNRELATED = {"__init__", "__main__", "generate", "decoding", "beam", "fertility"}
WRAPPERS = {  # what holds a function: in which attribute
    **{FunctionType: "__wrapped__", staticmethod: "__func__", classmethod: "__func__"},
    **{property: "fget", cached_property: "func", partial: "func"},
}
PROJECT = {"gpt2", "optim", "utils", "config", "console", "experiments"}


def code_identity() -> dict[str, str]:
    """Return what the code contributes to a run's identity, as name -> digest or text.

    That is: each source file of gpt2/ and optim/ and utils.py (comments,
    docstrings and layout aside), and each of their functions that was replaced at run time, such
    as by a notebook cell.
    """
    identity = {}
    root = Path(gpt2.__file__).parent.parent
    for file in sorted([*root.glob("gpt2/**/*.py"), *root.glob("optim/*.py"), root / "utils.py"]):
        if file.stem in UNRELATED:
            continue
        name = file.relative_to(root)
        identity[name.as_posix()] = _digest_source(file.read_text(encoding="utf-8"))
        module = sys.modules.get(".".join(name.with_suffix("").parts))
        if module is not None:
            identity |= _replaced(module)
    return identity


def describe(value) -> str:
    """Return a text for an argument that decides a run's numbers: a function, with the arguments
    that are bound to it; a model, by its weights; or a plain value."""
    if isinstance(value, partial):
        parts = [value.func, *value.args, *value.keywords.values()]
        return repr([list(value.keywords), *map(describe, parts)])
    if isinstance(value, nn.Module):
        return fingerprint(*value.state_dict().values())
    file = getattr(sys.modules.get(getattr(value, "__module__", "")), "__file__", None)
    if not isinstance(value, FunctionType) or file is None:
        return _describe(value) if isinstance(value, FunctionType) else repr(value)
    source = _digest_source(Path(file).read_text(encoding="utf-8"))
    return f"{value.__module__}.{value.__qualname__}, {source}"


def changed_code(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names in which two `code_identity` differ."""
    return sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))


@lru_cache(maxsize=256)
def _digest_source(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return _digest(ast.dump(tree))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _replaced(module: ModuleType) -> dict[str, str]:
    """Return name -> digest of the functions of a module and its classes that are not its own."""
    digests = {}
    for name, value in vars(module).items():
        members = {name: value}
        if isinstance(value, type):
            own = value.__module__ == module.__name__ or _is_users(value.__module__)
            members = {f"{name}.{key}": member for key, member in vars(value).items() if own}
        for qualified, member in members.items():
            functions = list(_unwrapped(member))
            # A class's own method has the class in its name; torch's own decorators are no change.
            moved = functions and "." in qualified and functions[-1].__qualname__ != qualified
            if moved or any(_is_users(function.__globals__["__name__"]) for function in functions):
                text = repr([_describe(function) for function in functions])
                digests[f"{module.__name__}.{qualified}"] = _digest(text)
    return digests


def _unwrapped(value) -> Iterator[FunctionType]:
    """Yield a function and all that it wraps, outermost first; nothing for other values."""
    while type(value) in WRAPPERS:
        if isinstance(value, FunctionType):
            yield value
        value = getattr(value, WRAPPERS[type(value)], None)


def _is_users(name: str) -> bool:
    """Return whether a module is neither the project's nor a library: a notebook or a script."""
    root = name.partition(".")[0]
    if root in PROJECT or root in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _describe(value, inside: tuple = ()) -> str:
    """Return a text that is the same in every process for the same code or plain value."""
    if isinstance(value, CodeType):
        return repr([value.co_code, value.co_names, *map(_describe, value.co_consts)])
    if isinstance(value, tuple | frozenset):
        parts = [_describe(part) for part in value]
        return repr(sorted(parts) if isinstance(value, frozenset) else parts)
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return repr(value)
    if isinstance(value, ModuleType) and _is_users(value.__name__) and value.__file__:
        return _digest_source(Path(value.__file__).read_text(encoding="utf-8"))
    if not isinstance(value, FunctionType) or value in inside or not _is_users(value.__module__):
        return getattr(value, "__qualname__", type(value).__qualname__)
    code, known = value.__code__, value.__globals__
    around = [known[name] for name in code.co_names if name in known]
    around += [cell.cell_contents for cell in value.__closure__ or ()]
    around += [value.__defaults__, *(value.__kwdefaults__ or {}).values()]
    return repr([_describe(code), *(_describe(part, (*inside, value)) for part in around)])
