"""The mean of models is one whose every weight is the mean of theirs."""

import pytest
import torch

from config import GPT2Config
from extensions.averaging import average, main
from gpt2.model import GPT2Model
from tests import SAMPLE

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def models(count, **changes):
    torch.manual_seed(0)
    config = GPT2Config(**{**SHAPE, **changes}, max_position_embeddings=256)
    return [GPT2Model(config) for _ in range(count)]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_each_weight_is_the_mean_of_the_models_weights():
    given = models(3)
    before = [weights(model) for model in given]
    mean = average(given)
    for name, tensor in weights(mean).items():
        torch.testing.assert_close(tensor, sum(each[name] for each in before) / 3)
    for model, state in zip(given[1:], before[1:], strict=True):
        assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_averaged_with_itself_stays_the_same(dtype):
    (model,) = models(1)
    model.to(dtype)
    before = weights(model)
    average([model, model])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"hidden_size": 24}, "bias"), ({"num_hidden_layers": 2}, r"gpt_layers\.1")],
)
def test_models_of_other_shapes_are_refused(changes, name):
    (one,), (other,) = models(1), models(1, **changes)
    with pytest.raises(ValueError, match=f"model 2 differs from the first in .*{name}"):
        average([one, other])


def test_nothing_to_average_is_refused():
    with pytest.raises(ValueError, match="no model to average"):
        average([])


def test_the_command_tests_the_best_on_dev_and_saves_the_mean(tmp_path, capsys):
    for name, model in zip("ab", models(2), strict=True):
        model.save_pretrained(tmp_path / name)
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    main(folders, data=SAMPLE, languages=("en", "de"), out=tmp_path / "mean")
    *dev, english, german = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in dev] == [*folders, str(tmp_path / "mean")]
    best = max(dev, key=lambda line: float(line.split()[1])).split()[-1]
    assert english.endswith(f"en, {best}") and german.endswith(f"de, {best}")
    mean = weights(GPT2Model.from_pretrained(tmp_path / "mean"))
    torch.testing.assert_close(mean, weights(average(models(2))))
