"""Load a causal model and its tokenizer, checked, from the hub, a folder or a GGUF file."""

import json

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from experiments.runs import load_gpt2
from extensions.backbones import gguf
from extensions.backbones.model import Backbone, quiet
from gpt2.tokenizer import load_tokenizer
from utils import checkpoint_file, get_device


def load_backbone(name, **settings) -> tuple[nn.Module, object]:
    """Return a causal model and its tokenizer; a GPT-2 as GPT2Model, any other as a Backbone.

    `settings` go to the model's from_pretrained; by default weights are float32, and attention is
    "eager" on a CPU, where it trains a third faster. Raises FileNotFoundError or
    ConnectionError where there is no such model, ValueError where it is damaged or not causal.
    """
    path = gguf.find(str(name))
    if path is None and _model_type(name) == "gpt2":
        return load_gpt2(name, **settings)
    settings = {"dtype": torch.float32, "output_loading_info": True} | settings
    if get_device().type == "cpu":
        settings.setdefault("attn_implementation", "eager")
    try:
        with quiet():
            if path is None:
                tokenizer = load_tokenizer(name)
                causal, info = AutoModelForCausalLM.from_pretrained(name, **settings)
            else:
                (causal, info), tokenizer = gguf.read(path, **settings)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # of a damaged file, almost anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{name}: not a whole causal language model that transformers reads ({reason})"
        ) from error
    if missing := [*info["missing_keys"], *info["mismatched_keys"]]:
        raise ValueError(f"{name}: lacks weights, such as {missing[0]}; fetch the model again")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = Backbone(causal.eval())
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.name_or_path = ""  # the same configuration wherever the files lie
    _check(model, name)
    return model, tokenizer


def _model_type(name) -> str | None:
    path = checkpoint_file(name, "config.json")
    if path is None:
        raise FileNotFoundError(f"{name}: no config.json there; give the folder of a whole model")
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a model's configuration ({error}); fetch it again") from None


@torch.no_grad()
def _check(model: Backbone, name) -> None:
    """Raise ValueError unless a few tokens get the causal model's own logits."""
    ids = torch.arange(1, 7, device=next(model.parameters()).device)[None]
    states = model(ids)["last_hidden_state"]
    pairs = {
        "sees later tokens, so it can't predict them": (
            model(ids[:, :3])["last_hidden_state"],
            states[:, :3],
        ),
        "computes its logits in another way than from its last hidden state": (
            model.hidden_state_to_token(states),
            model.causal(ids).logits,
        ),
    }
    tolerance = 1e-3 if states.dtype == torch.float32 else 0.02
    for problem, (ours, theirs) in pairs.items():
        if not (ours - theirs).norm() <= tolerance * theirs.norm():
            raise ValueError(f"{name}: {type(model.causal).__name__} {problem}; use another model")
