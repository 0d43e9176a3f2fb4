"""The page with the model in it: one file that opens without a server.

    python -m gpt2 demo --export page.html

A checkpoint of the miniature has 28 MB, 26 of them for the embeddings of 50,257 tokens, of which
the small world uses some thousand. Those keep half precision, like all other weights; the rows of
the others are rounded to whole numbers of a byte, each row with a scale of its own:

    row ≈ scale · (-LEVELS ... LEVELS),  scale = max |row| / LEVELS

More levels would not fit. With 7, numbers of 4 bits, a probability changed by 0.44: in languages
that the model was not fine-tuned on, much of it is spread over those tokens. `decompress` gives the
model that the page computes with.
"""

import gzip
from pathlib import Path

import numpy as np
import torch

from experiments.files import write_text
from extensions.demo.examples import used_tokens
from extensions.demo.page import make_page, page_info
from extensions.demo.vocabulary import merges
from gpt2.evaluate import answer
from gpt2.model import GPT2Model
from gpt2.tokenizer import encode_texts

LIMIT = 10_000_000  # bytes of the file
LEVELS = 80  # on either side of 0
ROWS = "word_embedding.weight"


def export_page(model, tokenizer, name: str, path) -> tuple[int, float]:
    """Write the page to a file; return its size and the largest change of a probability.

    The change is that of the example pairs' labels by rounding. Raises ValueError for a model that
    is too large, or has another activation than GPT-2's.
    """
    if model.config.activation_function != "gelu_new":
        raise ValueError(
            f"the page computes gelu_new, but the model has {model.config.activation_function}; "
            "serve it instead: python -m gpt2 demo without --export"
        )
    arrays = compress(model, used_tokens(tokenizer))
    tensors, packed = pack(arrays | {"merges": merges(tokenizer)})
    info = page_info(model, tokenizer, name, tensors=tensors)
    size = len(make_page(info, packed).encode())
    if size > LIMIT:
        raise ValueError(
            f"the page would have {size / 1e6:.1f} MB, but at most {LIMIT / 1e6:.1f} open "
            "comfortably; serve this model instead: python -m gpt2 demo without --export"
        )
    change = largest_change(model, decompress(arrays, model.config), tokenizer, info)
    info["rounding"] = {"change": change, "tokens": len(arrays["used"])}
    page = make_page(info, packed)
    write_text(Path(path), page)
    return len(page.encode()), change


def compress(model, used: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights as arrays of float16; the embedding as four arrays.

    `used` are the ids of the tokens that keep half precision, `rows` their rows; `levels` are the
    numbers of the other rows, `scales` their scales.
    """
    weights = {name: weight.detach().float().cpu() for name, weight in model.state_dict().items()}
    table = weights.pop(ROWS)
    arrays = {name: weight.half().numpy() for name, weight in weights.items()}
    others = torch.ones(len(table), dtype=torch.bool)
    others[used] = False
    rows = table[others]
    scales = (rows.abs().amax(dim=1) / LEVELS).clamp(min=2**-24).half()  # the smallest half above 0
    levels = (rows / scales.float()[:, None]).round().clamp(-LEVELS, LEVELS)
    return arrays | {
        "used": used.astype(np.uint16),
        "rows": table[used].half().numpy(),
        "levels": levels.to(torch.int8).numpy(),
        "scales": scales.numpy(),
    }


def decompress(arrays: dict[str, np.ndarray], config) -> GPT2Model:
    """Return the model whose weights are exactly those of the arrays."""
    arrays = dict(arrays)
    used, rows, levels, scales = (arrays.pop(name) for name in ("used", "rows", "levels", "scales"))
    weights = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    table = torch.empty(config.vocab_size, config.hidden_size)
    others = torch.ones(len(table), dtype=torch.bool)
    others[used.astype(np.int64)] = False
    table[others] = torch.from_numpy(levels).float() * torch.from_numpy(scales).float()[:, None]
    table[used.astype(np.int64)] = torch.from_numpy(rows).float()
    model = GPT2Model(config)
    model.load_state_dict({**weights, ROWS: table})
    return model.eval()


def pack(arrays: dict[str, np.ndarray]) -> tuple[list[dict], bytes]:
    """Return where each array starts, and all of them compressed."""
    tensors, parts, start = [], [], 0
    for name, array in arrays.items():
        kind = array.dtype.name
        tensors.append({"name": name, "kind": kind, "start": start, "length": array.size})
        parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        parts.append(bytes(-len(parts[-1]) % 4))  # every array starts at a multiple of 4
        start += len(parts[-2]) + len(parts[-1])
    return tensors, gzip.compress(b"".join(parts), mtime=0)


def largest_change(model, rounded, tokenizer, info: dict) -> float:
    """Return the largest difference of two models' label probabilities for the example pairs."""
    pairs = [pair for example in info["examples"] for pair in example["texts"].values()]
    texts = [info["prompt"].format(premise=premise, hypo=hypo) for premise, hypo in pairs]
    prompts = [torch.tensor(ids) for ids in encode_texts(tokenizer, texts)]
    digits = [label["id"] for label in info["labels"]]
    ours, theirs = (answer(m, prompts, digits)[1].exp().cpu() for m in (model, rounded))
    return float((ours - theirs).abs().max())
