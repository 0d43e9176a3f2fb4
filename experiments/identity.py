"""Digest the code that decides a run's numbers: changed code is another run."""

import ast
import hashlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType

import gpt2
import optim
import utils
from gpt2 import prompts, xnli

# Text generation and token counts decide no number of a training run or its evaluation.
UNRELATED = {"__init__", "__main__", "generate", "decoding", "beam", "fertility"}
PROJECT = {"gpt2", "optim", "utils", "config", "experiments"}
PLAIN = (bool, int, float, complex, str, bytes, type(None))


def code_identity(recipe=None) -> dict[str, str]:
    """Return what the code contributes to a run's identity, as name -> digest or text.

    That is: the prompt, the labels, each source file of gpt2/ and optim/, utils.py and the file
    `recipe` (comments, docstrings and layout aside), and each function of their modules that is
    not the file's: replaced at run time, such as by a notebook cell, or loaded before the file was
    edited.
    """
    identity = {"prompt": prompts.PROMPT, "labels": repr(xnli.LABEL2ID)}
    for module, (name, path) in _sources(recipe).items():
        text = path.read_text(encoding="utf-8")
        identity[name] = _digest_source(text)
        if module in sys.modules:
            for function, digest in _replaced(sys.modules[module], text).items():
                identity[f"{module}.{function} (not as in {name})"] = digest
    return identity


def changed_code(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names in which two `code_identity` differ."""
    return sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))


def _sources(recipe) -> dict[str, tuple[str, Path]]:
    """Return module -> (name to show, file) of all files that decide numbers."""
    files = {}
    for package in (gpt2, optim):
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            if path.stem not in UNRELATED:
                name = path.relative_to(root.parent).as_posix()
                files[name.removesuffix(".py").replace("/", ".")] = (name, path)
    files["utils"] = ("utils.py", Path(utils.__file__))
    if recipe is not None:
        path = Path(recipe)
        files[f"{path.parent.name}.{path.stem}"] = (f"{path.parent.name}/{path.name}", path)
    return files


@lru_cache(maxsize=256)
def _digest_source(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return _digest(ast.dump(tree))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


# ---- Functions that are not the file's ---------------------------------------------------------


def _replaced(module, text: str) -> dict[str, str]:
    """Return qualified name -> digest of a module's functions that `text` does not define so."""
    defined, replaced = _code_of(text), {}
    for name, value in _members(module):
        functions = list(_unwrapped(value))
        if not functions:
            continue
        code = _describe_code(functions[-1].__code__)
        other = name in defined and code not in defined[name]
        if other or any(map(_is_foreign, functions)):
            replaced[name] = _digest(" ".join(_describe(f, set()) for f in functions))
    return replaced


def _members(module) -> Iterator[tuple[str, object]]:
    """Yield qualified name and value of all that a module and its own classes hold."""
    for name, value in vars(module).items():
        if not isinstance(value, type):
            yield name, value
        elif value.__module__ == module.__name__ or _is_foreign_module(value.__module__):
            yield from ((f"{name}.{key}", member) for key, member in vars(value).items())


def _unwrapped(value) -> Iterator[FunctionType]:
    """Yield a function and all that it wraps, outermost first; nothing for other values."""
    while value is not None:
        if isinstance(value, FunctionType):
            yield value
            value = getattr(value, "__wrapped__", None)
        elif isinstance(value, staticmethod | classmethod):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        elif isinstance(value, partial):
            value = value.func
        else:
            return


def _is_foreign(function: FunctionType) -> bool:
    return _is_foreign_module(function.__globals__.get("__name__", "builtins"))


def _is_foreign_module(name: str) -> bool:
    """Whether a module is neither the project's nor a library: a notebook or a script."""
    root = name.partition(".")[0]
    if root in PROJECT or root in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)


@lru_cache(maxsize=256)
def _code_of(text: str) -> dict[str, set[str]]:
    """Return qualified name -> descriptions of the code that a file defines under it."""
    found = defaultdict(set)
    stack = [compile(text, "source", "exec", dont_inherit=True)]
    while stack:
        code = stack.pop()
        found[code.co_qualname].add(_describe_code(code))
        stack += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return dict(found)


def _describe_code(code: CodeType) -> str:
    """Return all of a function's code that decides what it does; line numbers do not."""
    constants = list(code.co_consts)
    has_docstring = code.co_flags & getattr(inspect, "CO_HAS_DOCSTRING", -1)
    if constants and isinstance(constants[0], str) and has_docstring:
        constants[0] = None
    described = [
        _describe_code(c) if isinstance(c, CodeType) else _describe_value(c) for c in constants
    ]
    return repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, described))


def _describe_value(value) -> str:
    """Return a text that is the same in every process for the same value."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, tuple | frozenset):
        parts = [_describe_value(part) for part in value]
        return repr(sorted(parts) if isinstance(value, frozenset) else parts)
    return type(value).__qualname__  # what may change from call to call identifies nothing


def _describe(function: FunctionType, seen: set) -> str:
    """Return a function's code and, unless it is the project's own, what it refers to."""
    code = function.__code__
    if function in seen or not _is_foreign(function):
        return _describe_code(code)
    seen.add(function)
    names = {name for part in _nested(code) for name in part.co_names}
    around = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        around[name] = cell.cell_contents
    keywords = (function.__kwdefaults__ or {}).items()
    around["defaults"] = (function.__defaults__, *sorted(keywords))
    referred = {
        name: _describe(value, seen) if isinstance(value, FunctionType) else _describe_value(value)
        for name, value in sorted(around.items())
    }
    return repr((_describe_code(code), referred))


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
