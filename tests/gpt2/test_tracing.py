"""What torch records of the model for later inputs: compile, export and jit.trace."""

from itertools import product

import pytest
import torch

from config import GPT2Config
from gpt2.model import GPT2Model
from tests.conftest import TINY

pytestmark = pytest.mark.all
DIMENSIONS = {0: torch.export.Dim("B", min=2, max=64), 1: torch.export.Dim("T", min=2, max=64)}


class Pair(torch.nn.Module):
    """The model's two outputs as a tuple, which is what jit.trace takes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return tuple(self.model(input_ids, attention_mask).values())


RECORD = {
    "trace": lambda pair, *inputs: torch.jit.trace(pair, inputs, check_trace=False),
    "compile": lambda pair, *_: torch.compile(pair, fullgraph=True, backend="aot_eager"),
    "export": lambda pair, *inputs: torch.export.export(
        pair, inputs, dynamic_shapes=(DIMENSIONS, DIMENSIONS)
    ).module(),
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("way", "attention"),
    [
        *(pytest.param("compile", "eager", marks=pytest.mark.slow), ("compile", "sdpa")),
        *product(("trace", "export"), ("eager", "sdpa")),
    ],
)
@torch.no_grad()
def test_a_recorded_model_is_right_for_every_padding_and_length(way, attention):
    torch.manual_seed(0)
    shape = TINY | {"num_hidden_layers": 2, "initializer_range": 0.2}
    config = GPT2Config(**shape, attn_implementation=attention)
    pair = Pair(GPT2Model(config).eval()).eval()
    ids = torch.randint(0, 100, (3, 7))
    recorded = RECORD[way](pair, ids, torch.ones_like(ids))  # of rows without a pad
    left = torch.ones_like(ids)
    left[1, :3] = left[2, :1] = 0
    for mask in (left, left.flip(1), torch.cat([left[1:], left[1:]], dim=1)):
        ids = torch.randint(0, 100, mask.shape)
        states, last = pair(ids, mask)
        others, other_last = recorded(ids, mask)
        torch.testing.assert_close(others[mask == 1], states[mask == 1])
        torch.testing.assert_close(other_last, last)
