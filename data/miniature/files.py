"""The miniature on disk: NLI files in XNLI's layout, and the model as an ordinary checkpoint.

Neither is in the repository as such; both are made in `data/miniature/cache/` at their first use.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from config import GPT2Config
from data.miniature.language import CODES, FOLDER, language
from data.miniature.pairs import make_pairs
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer
from utils import atomic_write

HERE = Path(__file__).parent
CACHE = HERE / "cache"
PACKED = HERE / "model"
CHECKSUMS = "checksums.json"
COLUMNS = (  # of XNLI's own dev and test files
    *("language", "gold_label", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "promptID", "pairID"),
    *("genre", "label1", "label2", "label3", "label4", "label5"),
    *("sentence1_tokenized", "sentence2_tokenized", "match"),
)


def nli_folder() -> Path:
    """Return the folder that holds XNLI-1.0 and XNLI-MT-1.0; written at its first use."""
    sources = [HERE / f"{name}.py" for name in ("world", "language", "pairs", "files")]
    return _made_once("nli", [*sources, *sorted(FOLDER.glob("*.toml"))], _write_nli)


def model_folder() -> Path:
    """Return the folder of the pretrained miniature, a checkpoint; unpacked at its first use."""
    sources = [PACKED / "config.json", PACKED / "weights.safetensors", HERE / "files.py"]
    return _made_once("model", sources, unpack)


def pack(model: GPT2Model, used: torch.Tensor, folder: Path = PACKED) -> None:
    """Save a CompactGPT2 in half precision; `used` holds GPT-2's ids of its tokens but the last."""
    state = {name: weight.half() for name, weight in model.state_dict().items()}
    own = {"bos_token_id", "eos_token_id", "pad_token_id", "vocab_size"}  # the rest is GPT-2's
    config = {name: value for name, value in model.config.to_dict().items() if name not in own}
    folder.mkdir(exist_ok=True)
    with atomic_write(folder / "weights.safetensors") as path:
        save_file({**state, "used": used.int()}, path)
    text = json.dumps(GPT2Config.from_dict(config).to_dict(), indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def unpack(folder: Path, packed: Path = PACKED) -> None:
    """Write the miniature as a checkpoint, with a row of the embedding for each of GPT-2's tokens.

    Tokens that no text uses have moved together: each has the last row, and what it was
    initialized with.
    """
    state = {
        name: weight.float() for name, weight in load_file(packed / "weights.safetensors").items()
    }
    config = GPT2Config.from_dict(json.loads((packed / "config.json").read_text("utf-8")))
    rows = state.pop("word_embedding.weight")
    noise = torch.randn(
        config.vocab_size, config.hidden_size, generator=torch.Generator().manual_seed(0)
    )
    embedding = rows[-1] + config.initializer_range * noise
    embedding[state.pop("used").long()] = rows[:-1]
    model = GPT2Model(config)
    model.load_state_dict({**state, "word_embedding.weight": embedding})
    model.save_pretrained(folder, tokenizer=load_tokenizer("gpt2"))


def phenomena(split: str) -> dict[str, str]:
    """Return each pair's phenomenon (see world.FORMS) by its pairID."""
    return {str(number): pair.phenomenon for number, pair in enumerate(make_pairs(split), 1)}


def _write_nli(folder: Path) -> None:
    (folder / "XNLI-1.0").mkdir()
    (folder / "XNLI-MT-1.0" / "multinli").mkdir(parents=True)
    for split in ("dev", "test"):
        rows = [COLUMNS]
        for code in CODES:
            for number, pair in enumerate(make_pairs(split), 1):
                premise, hypothesis = sentences(pair, code)
                row = dict.fromkeys(COLUMNS, "")
                label = "contradiction" if pair.label == "contradictory" else pair.label
                row |= {"language": code, "gold_label": label, "genre": pair.phenomenon}
                row |= {"sentence1": premise, "sentence2": hypothesis, "pairID": str(number)}
                rows.append(tuple(row.values()))
        _write_tsv(folder / "XNLI-1.0" / f"xnli.{split}.tsv", rows)
    pairs = make_pairs("train")
    for code in CODES:
        rows = [("premise", "hypo", "label")]
        rows += [(*sentences(pair, code), pair.label) for pair in pairs]
        _write_tsv(folder / "XNLI-MT-1.0" / "multinli" / f"multinli.train.{code}.tsv", rows)


def sentences(pair, code: str) -> tuple[str, str]:
    """Return a pair's premise and hypothesis in a language."""
    lang = language(code)
    return lang.join([lang.say(fact) for fact in pair.premise]), lang.say(pair.hypothesis)


def _write_tsv(path: Path, rows: list[tuple[str, ...]]) -> None:
    text = "".join("\t".join(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def _made_once(name: str, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """Return `cache/<name>-<digest of the sources>`, made by `make(folder)` if it is not there.

    A folder in which a file is not as it was made is made again, with a warning.
    """
    digest = hashlib.blake2b(digest_size=4)
    for path in sources:
        digest.update(path.read_bytes())
    folder = CACHE / f"{name}-{digest.hexdigest()}"
    if _is_whole(folder):
        return folder
    CACHE.mkdir(exist_ok=True)
    with FileLock(CACHE / ".lock"):
        if _is_whole(folder):  # another process was faster
            return folder
        unfinished, old = (Path(tempfile.mkdtemp(dir=CACHE)) for _ in range(2))
        try:
            make(unfinished)
            files = [path for path in sorted(unfinished.rglob("*")) if path.is_file()]
            sums = {path.relative_to(unfinished).as_posix(): _checksum(path) for path in files}
            (unfinished / CHECKSUMS).write_text(json.dumps(sums), encoding="utf-8")
            unfinished.chmod(0o755)
            if folder.is_dir():
                warnings.warn(f"{folder}: damaged; it is made again", stacklevel=3)
                os.replace(folder, old / "damaged")
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    """Return whether every file of a folder is as it was made."""
    try:
        sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return all(_checksum(folder / name) == sum for name, sum in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _checksum(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
