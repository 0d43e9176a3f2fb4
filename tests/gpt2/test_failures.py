"""What went wrong is said: divergence, NaN, too little memory, model folders that would do harm."""

import json
import signal
import time
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from config import GPT2Config
from gpt2.checkpoints import Checkpoints
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.model import GPT2Model
from gpt2.train import RECENT, train
from optim import AdamW
from tests.hugging_face import small_model

IDS = torch.randint(0, 50, (64, 12), generator=torch.Generator().manual_seed(0))
ONES = torch.ones_like(IDS)


def batches(count):
    return [(IDS[i % 60 : i % 60 + 4], ONES[:4]) for i in range(count)]


# ---- Training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 10.0, 4e9])
def test_a_training_that_diverges_stops_with_the_reason(rate):
    model = small_model()
    with pytest.raises(FloatingPointError, match=r"training diverged: .*lower the learning rate"):
        train(model, batches(4 * RECENT), AdamW(model.parameters(), lr=rate))


def test_bad_steps_among_good_ones_do_not_stop_a_training():
    model, losses = small_model(), iter([1.0, *[100.0, 1.5] * RECENT])

    def loss_fn(model, batch, reduction):
        loss = model(*batch)["last_token"].sum()
        return 44 * (loss - loss.detach() + next(losses))  # 4 rows of 11 labels

    history = train(model, batches(2 * RECENT), AdamW(model.parameters()), loss_fn=loss_fn)
    assert len(history) == 2 * RECENT and max(step.loss for step in history) == pytest.approx(100)


def test_too_little_memory_is_named_with_what_helps():
    model = small_model()

    def loss_fn(model, batch, reduction):
        return model(*batch)["last_token"].sum() + torch.empty(2**60).sum()

    with pytest.raises(MemoryError, match=r"not enough memory: lower batch_size or token_budget"):
        train(model, batches(2), AdamW(model.parameters()), loss_fn=loss_fn)


def test_a_file_too_large_for_the_memory_is_not_called_damaged(tmp_path, monkeypatch):
    small_model().save_pretrained(tmp_path)
    monkeypatch.setattr("gpt2.weights.load_tensors", lambda path: torch.empty(2**60))
    with pytest.raises(MemoryError, match=r"model.safetensors does not fit; close other programs"):
        GPT2Model.from_pretrained(tmp_path)


def test_other_threads_on_resumption_are_warned_of(tmp_path):
    def go(stop=None):
        model = small_model()

        def callback(progress):
            if progress.step == stop:
                raise KeyboardInterrupt

        checkpoints = Checkpoints(tmp_path, every_seconds=0)
        optimizer = AdamW(model.parameters())
        return train(model, batches(4), optimizer, checkpoints=checkpoints, callbacks=[callback])

    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        go(stop=2)
    try:
        torch.set_num_threads(before + 1)
        with pytest.warns(UserWarning, match=rf"^2 steps were computed by .*'threads': {before}"):
            go()
    finally:
        torch.set_num_threads(before)


def test_ctrl_c_saves_the_step_and_the_same_call_continues(tmp_path):
    def go(folder, stop=None):
        model, seen = small_model(), []

        def callback(progress):
            seen.append(progress.step)
            if progress.step == stop:
                signal.raise_signal(signal.SIGINT)

        checkpoints, optimizer = Checkpoints(folder), AdamW(model.parameters())
        train(model, batches(6), optimizer, checkpoints=checkpoints, callbacks=[callback])
        return [parameter.tolist() for parameter in model.parameters()], seen

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="step 2 is saved; the same call continues"):
        go(tmp_path / "stopped", stop=2)
    assert signal.getsignal(signal.SIGINT) is before
    weights, seen = go(tmp_path / "stopped")
    assert seen == [2, 3, 4, 5, 6] and weights == go(tmp_path / "whole")[0]


# ---- Evaluation and generation -----------------------------------------------------------------


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["final_layer_norm.bias", "gpt_layers.0.interm_dense.weight"])
def test_no_answer_or_text_comes_from_a_model_of_nan(number, where):
    model = small_model()
    torch.nn.init.constant_(model.get_parameter(where), number)
    with pytest.raises(FloatingPointError, match="the model's output is NaN"):
        answer(model, list(IDS[:3]), [1, 2])
    for decoding in ({}, {"do_sample": True}, {"num_beams": 2}):
        with pytest.raises(FloatingPointError, match="the model's output is NaN"):
            generate(model, IDS[:2], max_new_tokens=2, **decoding)


# ---- Model folders -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    small_model().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_norm_epsilon": 1e999, "layer_norm_eps": 1e999},
        {"layer_norm_eps": float("nan")},
        {"pad_token_id": "50256"},
        {"pad_token_id": 1.5},
        {"eos_token_id": [1, 2]},
        {"bos_token_id": -3},
        {"to_dict": 1},
        {"save_pretrained": "x"},
        {"__class__": "x"},
        {"num_hidden_layers": 10**6, "n_layer": 10**6},
        {"vocab_size": 2**31},
        {"hidden_size": 2**30, "n_embd": 2**30},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused_at_once(changes, folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    began = time.process_time()
    with pytest.raises(ValueError) as error:
        GPT2Model.from_pretrained(folder)
    assert time.process_time() - began < 1 and "\n" not in str(error.value)
    assert any(name in str(error.value) for name in (*changes, "wte.weight"))


def test_an_archive_that_expands_is_refused_at_once(folder):
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(2**28))
    began = time.process_time()
    with pytest.raises(ValueError, match=r"pytorch_model.bin: not a whole torch file"):
        GPT2Model.from_pretrained(folder)
    assert time.process_time() - began < 1


def test_weights_too_large_for_the_dtype_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"][3] = 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert GPT2Model.from_pretrained(folder).final_layer_norm.bias.max() == 1e6
    torch.set_default_dtype(torch.float16)
    try:
        with pytest.raises(ValueError, match=r"final_layer_norm.bias has values .*float16"):
            GPT2Model.from_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_id_may_be_missing():
    config = GPT2Config(pad_token_id=None, eos_token_id=None)
    assert config.pad_token_id is None
