"""Where each exercise stands, what its check needs of others, and what an error says of it."""

import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "attention": "gpt2/attention.py",
    "add": "gpt2/layer.py",
    "layer forward": "gpt2/layer.py",
    "embed": "gpt2/model.py",
    "hidden_state_to_token": "gpt2/model.py",
    "sanity check": "gpt2/model.py",
    "AdamW.step": "optim/adamw.py",
    "next_token_loss": "gpt2/loss.py",
    "pretraining step": "gpt2/train.py",
    "generation": "gpt2/generate.py",
    "fine-tuning step": "exercises/finetuning.py",
    "labels": "gpt2/tasks.py",
    "parameter count": "exercises/accounting.py",
    "training costs": "exercises/accounting.py",
}
COMPANIONS = {  # files that serve one exercise alone
    "generation": ("gpt2/decoding.py", "gpt2/beam.py", "gpt2/cache.py"),
    "labels": ("gpt2/xnli.py", "gpt2/prompts.py"),
}
PARTS = ("attention", "add", "layer forward", "embed")  # of the model
WHOLE = (*PARTS, "hidden_state_to_token")
NEEDS = {  # a wrong one of these may be why the check fails
    "layer forward": ("attention", "add"),
    "sanity check": PARTS,
    "next_token_loss": WHOLE,
    "pretraining step": (*WHOLE, "next_token_loss"),
    "generation": WHOLE,
    "fine-tuning step": WHOLE,
}
SAYS = {  # what an error's text means in an exercise
    ("layer forward", "mat1 and mat2 shapes"): "self.add applies the dense layer itself",
    ("layer forward", "inplace operation"): "the residual connection needs what is overwritten",
    ("layer forward", "does not require grad"): "keep the output in the graph",
    ("attention", "must match the size"): "a mask has a row for each query, a column for each key",
    ("attention", "view size is not"): "after a transpose use .contiguous(), reshape or rearrange",
    ("pretraining step", "does not require grad"): "keep the loss in the graph until backward()",
    ("fine-tuning step", "does not require grad"): "keep the loss in the graph until backward()",
    ("generation", "[B, 0]"): "append each chosen token to the text that the model reads",
    ("generation", "must match except in dimension"): "append one token to each row, (B, 1)",
}
EXTRA = "GPT-2's weights have no such entry: tie it to one, or register_buffer(persistent=False)"
SAYS |= {(name, "Missing key(s)"): EXTRA for name in ("embed", "hidden_state_to_token")}
CANNOT, NOT_WRITTEN = "cannot be imported", "not written yet"


class Reported(Exception):
    """State and problem, as `explain` gave them in the process in which an error happened."""


def explain(error: BaseException, exercise: str) -> tuple[str, str]:
    """Return the state in which an error leaves an exercise, and why, in one line."""
    if isinstance(error, Reported):
        return error.args
    mine, text = FILES.get(exercise, ""), str(error)
    if isinstance(error, NotImplementedError) and text in FILES:
        return ("to do", NOT_WRITTEN) if text == exercise else ("waits", f"waits for {text}")
    text = error.msg if isinstance(error, SyntaxError) else text
    frames = _own_frames(error)
    if isinstance(error, NotImplementedError) and not text and frames:
        file, line, _ = frames[-1]
        if file == mine:  # of this exercise or of another one in the same file
            return "to do", f"{NOT_WRITTEN} ({file}, line {line})"
        return "waits", f"waits for {file}"
    if frames and frames[-1][2] == "<module>":
        file, line, _ = frames[-1]
        why = f"{CANNOT}: {type(error).__name__}: {text} (line {line})"
        if file in {*FILES.values()} - {mine}:
            return "waits", f"waits for {file}, which {why}"
        return "failed", f"{file} {why}"
    frames = [frame for frame in frames if frame[0] == mine] or frames
    where = f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""
    hints = [
        f": {hint}" for (name, said), hint in SAYS.items() if name == exercise and said in text
    ]
    if "NoneType" in text and not frames:  # in the check, which has got it
        hints.append(f": is a `return` missing in {mine}?")
    return "failed", f"{type(error).__name__}: {text}{where}{''.join(hints)}"


def _own_frames(error: BaseException) -> list[tuple[str, int, str]]:
    """Return file, line and function of what is neither a library's nor the checks'."""
    frames = [(f.filename, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno, "<module>"))
    paths = [Path(filename).resolve() for filename, *_ in frames]
    return [
        (path.relative_to(ROOT).as_posix(), line, function)
        for path, (_, line, function) in zip(paths, frames, strict=True)
        if _is_own(path)
    ]


def _is_own(path: Path) -> bool:
    if not path.is_relative_to(ROOT) or not path.is_file():  # "<string>" is no file
        return False
    inside = path.relative_to(ROOT).parts
    library = path.is_relative_to(sysconfig.get_path("stdlib")) or "site-packages" in inside
    return not library and not path.is_relative_to(ROOT / "grading")


@contextmanager
def file_by_file() -> Iterator[None]:
    """Let each file of gpt2 be imported by itself where the package as a whole cannot be."""
    hollow = ModuleType("gpt2")
    hollow.__path__ = [str(ROOT / "gpt2")]
    try:
        import_module("gpt2")
    except (Exception, SystemExit):
        sys.modules["gpt2"] = hollow
    try:
        yield
    finally:
        if sys.modules.get("gpt2") is hollow:
            del sys.modules["gpt2"]
