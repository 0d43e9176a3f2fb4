"""A small GPT-2 in a folder, with a small tokenizer: of GPT-2's own vocabulary, tests are slow."""

import json
from functools import cache
from pathlib import Path

import torch
from transformers import GPT2TokenizerFast

from config import GPT2Config
from gpt2.model import GPT2Model
from tests import ROOT

MERGES = 1500
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@cache
def small_tokenizer() -> GPT2TokenizerFast:
    """GPT-2's tokenizer with its first merges alone; end-of-text is the last token."""
    folder = ROOT / "gpt2" / "vocabulary"
    ids = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1 : MERGES + 1]
    tokens = [*list(ids)[: 256 + MERGES], "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return GPT2TokenizerFast(vocab=vocab, merges=[tuple(merge.split()) for merge in merges])


def save_small_gpt2(folder: Path, seed: int = 0, **settings) -> Path:
    """Save a GPT-2 with random weights and the small tokenizer; return its folder."""
    torch.manual_seed(seed)
    tokenizer = small_tokenizer()
    fixed = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.eos_token_id}
    config = GPT2Config(**{"max_position_embeddings": 128, **SHAPE, **fixed, **settings})
    GPT2Model(config).save_pretrained(folder, tokenizer=tokenizer)
    return folder
