"""What we are measured against: the loop as one writes it from the handout, and transformers."""

import torch
import torch.nn.functional as F
import transformers

from config import GPT2Config
from gpt2 import weights
from gpt2.model import GPT2Model
from utils import set_seed


class PlainAdamW(torch.optim.Optimizer):
    """The handout's formulas one after the other, each making a new tensor."""

    def __init__(self, params, lr, weight_decay, betas=(0.9, 0.999), eps=1e-6):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, betas=betas, eps=eps))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                m = state["m"] = beta1 * state["m"] + (1 - beta1) * p.grad
                v = state["v"] = beta2 * state["v"] + (1 - beta2) * p.grad**2
                m_hat = m / (1 - beta1 ** state["t"])
                v_hat = v / (1 - beta2 ** state["t"])
                p -= group["lr"] * m_hat / (v_hat.sqrt() + group["eps"])
                p -= group["lr"] * group["weight_decay"] * p


def plain_step(model: GPT2Model, optimizer, batch: dict) -> float:
    """The logits of every position, their shifted cross-entropy, float32."""
    model.train()
    optimizer.zero_grad()
    hidden = model(batch["input_ids"], batch["attention_mask"])["last_hidden_state"]
    logits = model.hidden_state_to_token(hidden)
    shifted = logits[:, :-1].contiguous().view(-1, logits.size(-1))
    loss = F.cross_entropy(shifted, batch["labels"][:, 1:].contiguous().view(-1))
    loss.backward()
    optimizer.step()
    return loss.item()


def transformers_step(model, optimizer, batch: dict, precision: str = "float32") -> float:
    """Hidden states by transformers, logits at positions with a label only."""
    model.train()
    optimizer.zero_grad()
    device_type = model.device.type
    with torch.autocast(device_type, torch.bfloat16, enabled=precision == "bf16"):
        hidden = model.transformer(
            batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state
        targets = batch["labels"][:, 1:]
        counted = targets != -100
        logits = model.lm_head(hidden[:, :-1][counted])
        loss = F.cross_entropy(logits.float(), targets[counted])
    loss.backward()
    optimizer.step()
    return loss.item()


def hugging_face(config: GPT2Config, device: str = "cpu") -> transformers.GPT2LMHeadModel:
    """transformers' GPT-2 with random weights (seed 0), attention by torch's fused kernel."""
    torch.manual_seed(0)
    theirs = transformers.GPT2Config(
        n_embd=config.hidden_size,
        n_layer=config.num_hidden_layers,
        n_head=config.num_attention_heads,
        n_inner=config.intermediate_size,
        n_positions=config.max_position_embeddings,
        resid_pdrop=config.hidden_dropout_prob,
        embd_pdrop=config.hidden_dropout_prob,
        attn_pdrop=config.attention_probs_dropout_prob,
        attn_implementation="sdpa",
    )
    return transformers.GPT2LMHeadModel(theirs).to(device)


def same_weights(reference: transformers.GPT2LMHeadModel, config: GPT2Config) -> GPT2Model:
    """Our model with the weights of theirs."""
    model = GPT2Model(config)
    model.load_state_dict(weights.from_hugging_face(reference.state_dict(), config))
    return model.to(reference.device)


def dropout_seed(turn: int) -> None:
    set_seed(1000 + turn)
