"""Knowledge distillation: a smaller model learns what a larger one answers, and how surely.

A label says that an answer is right; a teacher's probabilities also say which wrong answers are
nearly right. With the logits z of the student and z' of the teacher at a position that has a label,
both divided by a temperature τ that makes small probabilities visible,

    L = (1 - α)·CE(z, label) + α·τ²·KL(softmax(z'/τ) ‖ softmax(z/τ)) + γ·(1 - cos(h, h'))

    teacher (frozen)   h' ──► z' ──► softmax(z'/τ) ─┐
                       │                            ├─ KL
    student            h  ──► z  ──► softmax(z/τ) ──┘
                       └── cos      └────────────────── CE with the label

τ² keeps the gradient's size independent of τ (Hinton et al. 2015). The last term draws the
student's last hidden states h to the teacher's h'. A student made of every second layer of its
teacher starts with much of what that knows (DistilBERT and DistilGPT-2, Sanh et al. 2019).
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2.loss import IGNORED, next_token_loss
from gpt2.model import GPT2Model


def student_of(teacher: GPT2Model, layers: Sequence[int] | None = None) -> GPT2Model:
    """Return a new model with copies of the teacher's `layers`, by default every second one.

    Embeddings and the final layer norm are copied, too. Raises ValueError for a layer that the
    teacher does not have, or none.
    """
    count = len(teacher.gpt_layers)
    layers = list(range(0, count, 2)) if layers is None else list(layers)
    if not layers or not all(0 <= layer < count for layer in layers):
        raise ValueError(f"layers must be some of 0 to {count - 1}, got {layers}")
    student = copy.deepcopy(teacher)
    student.gpt_layers = nn.ModuleList(copy.deepcopy(teacher.gpt_layers[i]) for i in layers)
    student.config.num_hidden_layers = len(layers)
    return student


def distillation_loss(
    model: GPT2Model,
    batch: dict[str, Tensor],
    reduction: str = "mean",
    *,
    teacher: GPT2Model,
    temperature: float = 2.0,
    alpha: float = 0.5,
    hidden: float = 0.0,
) -> Tensor:
    """Return L over the labelled positions of a batch; a `loss_fn` of gpt2.train.train.

    `alpha` is α, `hidden` is γ; `batch` and `reduction` are as in gpt2.loss.next_token_loss, and
    the batch has `labels`. The teacher's mode is its own: call its `eval()` first. Raises
    ValueError for numbers out of range, or a teacher with another vocabulary.
    """
    if not temperature > 0 or not 0 <= alpha <= 1 or not hidden >= 0:
        raise ValueError(
            "temperature must be above 0, alpha in [0, 1] and hidden at least 0, got "
            f"{temperature}, {alpha} and {hidden}"
        )
    if teacher.config.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the teacher has {teacher.config.vocab_size:,} tokens and the student "
            f"{model.config.vocab_size:,}; distill between models of one tokenizer"
        )
    seen: list[dict[str, Tensor]] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        losses = next_token_loss(model, batch, reduction="none")
    finally:
        hook.remove()
    counted = batch["labels"][:, 1:] != IGNORED
    with torch.no_grad():
        taught = teacher(batch["input_ids"], batch["attention_mask"])["last_hidden_state"]
        taught = taught[:, :-1][counted]
        wanted = F.log_softmax(teacher.hidden_state_to_token(taught).float() / temperature, dim=-1)
    learned = seen[0]["last_hidden_state"][:, :-1][counted]  # (N, d)
    found = F.log_softmax(model.hidden_state_to_token(learned).float() / temperature, dim=-1)
    divergence = F.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=-1)
    losses = (1 - alpha) * losses + alpha * temperature**2 * divergence
    if hidden:
        losses = losses + hidden * (1 - F.cosine_similarity(learned, taught, dim=-1))
    return losses if reduction == "none" else getattr(losses, reduction)()
