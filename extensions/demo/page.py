"""The page as one text: its HTML, style, scripts and data, and a policy that forbids the rest."""

import base64
import hashlib
import json
import re
from pathlib import Path

from extensions.demo.examples import LABELS, examples, language_names
from extensions.demo.vocabulary import token_bytes
from gpt2.prompts import label_tokens
from gpt2.xnli import XNLI

HERE = Path(__file__).parent
SCRIPTS = ("tokenizer", "model", "weights", "backends", "charts", "heads", "generation", "page")
MAX_CHARACTERS = 2000  # of premise and of hypothesis
MAX_PROMPT = 2 * MAX_CHARACTERS + len(XNLI.prompt)
CANDIDATES = 8  # for the next token


def page_info(model, tokenizer, name: str, **more) -> dict:
    """Return what the page is given of the model and the small world; `more` is added.

    The page reads `maxTokens`, which leaves the label a position.
    """
    config = model.config.to_dict()
    shape = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    shape += ("max_position_embeddings", "layer_norm_eps")
    digits = label_tokens(tokenizer, XNLI.prompt, XNLI.labels)
    return {
        "name": name,
        "config": {field: config[field] for field in shape},
        "byteOrder": [piece[0] for piece in token_bytes(tokenizer)[:256]],
        "prompt": XNLI.prompt,
        "labels": [
            {"name": LABELS[name], "id": id}
            for name, (id,) in zip(XNLI.labels, digits, strict=True)
        ],
        "maxCharacters": MAX_CHARACTERS,
        "maxPrompt": MAX_PROMPT,
        "maxTokens": config["max_position_embeddings"] - 1,
        "candidates": CANDIDATES,
        "languages": language_names(),
        "examples": examples(),
        **more,
    }


def make_page(info: dict, weights: bytes = b"") -> str:
    """Return the page; with `weights` (see export.py) it runs the model itself."""
    script = "\n".join(read(f"{name}.js") for name in SCRIPTS)
    style = read("page.css")
    policy = {
        "default-src": "'none'",
        "script-src": source_hash(script),
        "style-src": source_hash(style),
        "img-src": "data:",  # the icon, which is empty
        "connect-src": "'none'" if weights else "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    parts = {
        "policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "style": style,
        "script": script,
        "info": json.dumps(info, ensure_ascii=False).replace("<", "\\u003c"),
        "weights": base64.b64encode(weights).decode(),
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], read("page.html"))


def read(name: str) -> str:
    """Return a file of this folder, with the line ends that a browser sees."""
    return (HERE / name).read_text(encoding="utf-8")


def source_hash(text: str) -> str:
    """Return how a policy names the one text that may be used."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
