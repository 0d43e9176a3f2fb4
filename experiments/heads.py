"""What a model's attention heads look at, and which of them its predictions need."""

from contextlib import ExitStack

import pandas as pd
import torch
from torch import Tensor

from gpt2.evaluate import compute_accuracy, predict
from gpt2.model import GPT2Model
from gpt2.xnli import XNLIDataset


@torch.no_grad()
def attention_weights(model: GPT2Model, input_ids: Tensor) -> list[Tensor]:
    """Return each layer's attention weights, (h, T, T), for one row of ids (1, T)."""
    weights = []

    def record(attention, inputs):
        key, query = (attention.transform(inputs[0], w) for w in (attention.key, attention.query))
        weights.append(attention.attention_weights(key, query, None)[0])

    with ExitStack() as hooks:
        for layer in model.gpt_layers:
            hooks.enter_context(layer.self_attention.register_forward_pre_hook(record))
        model(input_ids)
    return weights


@torch.no_grad()
def accuracy_without_heads(model: GPT2Model, tokenizer, rows: XNLIDataset) -> pd.DataFrame:
    """Return the accuracy on `rows` without each head: a row a layer, a column a head.

    A head is removed by setting to zero its part of W_O, which is restored afterwards.
    """
    accuracies = {}
    for number, layer in enumerate(model.gpt_layers):
        d = layer.self_attention.attention_head_size
        for head in range(layer.self_attention.num_attention_heads):
            part = layer.attention_dense.weight[:, head * d : (head + 1) * d]
            saved = part.clone()
            part.zero_()
            predictions = predict(model, tokenizer, rows, progress=False)
            part.copy_(saved)
            right = compute_accuracy(predictions["prediction"], predictions["label"])
            accuracies.setdefault(f"layer {number}", {})[f"head {head}"] = right
    return pd.DataFrame.from_dict(accuracies, orient="index")
