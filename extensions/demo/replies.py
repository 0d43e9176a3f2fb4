"""What the server answers: a request's JSON is checked, and the model asked."""

import json
import re

from extensions.demo import inspection
from extensions.demo.page import MAX_CHARACTERS, MAX_PROMPT, page_info
from extensions.demo.vocabulary import token_bytes
from gpt2.tokenizer import encode_texts
from gpt2.xnli import XNLI

MAX_TOKENS = 256  # attention maps grow with the square


class Replies:
    """Reply to the page's requests about one model; `info` is what the page is given.

    The requests and replies are those of backends.js; every reply is a dict for JSON. They raise
    ValueError with a sentence for the reader.
    """

    def __init__(self, model, tokenizer, name: str):
        self.model, self.tokenizer, self.pieces = model, tokenizer, token_bytes(tokenizer)
        self.info = page_info(model, tokenizer, name)
        self.info["maxTokens"] = min(self.info["maxTokens"], MAX_TOKENS)
        self.labels = [label["id"] for label in self.info["labels"]]

    def analyze(self, request: dict) -> dict:
        """Return everything that the page shows of a pair."""
        ids, ablated, result = self._pair(request)
        result |= inspection.analyze(self.model, ids, self.labels, ablated)
        return result | {"attention": list(map(inspection.below_diagonal, result["attention"]))}

    def brief(self, request: dict) -> dict:
        """Return a pair's tokens and the probabilities of its labels."""
        ids, ablated, result = self._pair(request)
        result["probabilities"] = inspection.label_probabilities(
            self.model, ids, self.labels, ablated
        )
        return result

    def next(self, request: dict) -> dict:
        """Return a text's tokens and the candidates for the next."""
        ids = self._encode(_text(request, "text", MAX_PROMPT))
        ids += [self._id(id) for id in _field(request, "ids", list)]
        self._check_length(ids)
        count, ablated = self.info["candidates"], _heads(request)
        found = inspection.candidates(self.model, ids, count, ablated)
        return {
            "pieces": [list(self.pieces[id]) for id in ids],
            "candidates": [
                {"id": id, "piece": list(self.pieces[id]), "probability": probability}
                for id, probability in found
            ],
        }

    def _pair(self, request: dict) -> tuple[list[int], list, dict]:
        premise, hypothesis = (_text(request, name) for name in ("premise", "hypothesis"))
        ids = self._encode(XNLI.prompt.format(premise=premise, hypo=hypothesis))
        self._check_length(ids)
        tokens = len(self._encode(premise)) + len(self._encode(hypothesis))
        fertility = tokens / len([*premise.split(), *hypothesis.split()])
        pieces = [list(self.pieces[id]) for id in ids]
        return ids, _heads(request), {"pieces": pieces, "fertility": fertility}

    def _encode(self, text: str) -> list[int]:
        return encode_texts(self.tokenizer, [text])[0]

    def _check_length(self, ids: list[int]) -> None:
        if len(ids) > self.info["maxTokens"]:
            raise ValueError(
                f"The text has {len(ids)} tokens, but at most {self.info['maxTokens']} are read "
                "here: shorten it."
            )

    def _id(self, id) -> int:
        if type(id) is not int or not 0 <= id < len(self.pieces):
            raise ValueError(f"ids must be whole numbers from 0 to {len(self.pieces) - 1}.")
        return id


def read_request(body: bytes) -> dict:
    """Return the object that a request's body is."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("The request is not JSON.") from None
    if not isinstance(value, dict):
        raise ValueError("The request must be a JSON object.")
    return value


def _field(request: dict, name: str, kind: type):
    value = request.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a JSON {'string' if kind is str else 'array'}.")
    return value


def _text(request: dict, name: str, most: int = MAX_CHARACTERS) -> str:
    """Return a text; half of a surrogate pair becomes U+FFFD, as in a browser."""
    text = _field(request, name, str)
    if not text.strip():
        raise ValueError(f"The {name} is empty: type a text or choose an example.")
    if len(text) > most:
        raise ValueError(
            f"The {name} has {len(text):,} characters, but at most {most:,} are read here: "
            "shorten it."
        )
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _heads(request: dict) -> list[inspection.Head]:
    heads = []
    for text in _field(request, "ablated", list):
        if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", text):
            raise ValueError(f"a head is layer.head, such as 0.2, not {text!r:.40}.")
        layer, _, head = text.partition(".")
        heads.append((int(layer), int(head)))
    return heads
