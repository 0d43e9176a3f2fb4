"""Distillation: its limits are known losses, and a student starts as its teacher's layers."""

from functools import partial

import pytest
import torch

from config import GPT2Config
from extensions.distillation import distillation_loss, student_of
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from gpt2.train import train
from optim.adamw import AdamW
from tests.conftest import TINY


@pytest.fixture
def teacher(tiny_model):
    return tiny_model


@pytest.fixture
def batch():
    ids = torch.randint(0, 100, (4, 9), generator=torch.Generator().manual_seed(0))
    labels = ids.where(torch.arange(9) >= 7, -100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def test_a_student_of_all_layers_is_its_teacher(teacher, batch):
    student = student_of(teacher, range(3)).eval()
    ids = batch["input_ids"]
    assert torch.equal(student(ids)["last_hidden_state"], teacher(ids)["last_hidden_state"])
    student.word_embedding.weight.data.zero_()  # a copy
    assert teacher.word_embedding.weight.any()


def test_by_default_every_second_layer_is_copied(teacher):
    student = student_of(teacher)
    assert student.config.num_hidden_layers == len(student.gpt_layers) == 2
    for new, old in zip(student.gpt_layers, teacher.gpt_layers[::2], strict=True):
        for ours, theirs in zip(new.parameters(), old.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_a_student_is_saved_and_loaded_like_any_model(teacher, tmp_path, batch):
    student = student_of(teacher).eval()
    student.save_pretrained(tmp_path)
    loaded = GPT2Model.from_pretrained(tmp_path).eval()
    ids = batch["input_ids"]
    assert torch.equal(student(ids)["last_token"], loaded(ids)["last_token"])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_the_teachers_share_it_is_the_usual_loss(teacher, batch, reduction):
    student = student_of(teacher).eval()
    loss = distillation_loss(student, batch, reduction, teacher=teacher, alpha=0.0)
    torch.testing.assert_close(loss, next_token_loss(student, batch, reduction))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_the_formula_of_the_docstring(teacher, batch, temperature):
    student = student_of(teacher).eval()
    numbers = {"temperature": temperature, "alpha": 0.3, "hidden": 0.7}
    loss = distillation_loss(student, batch, "none", teacher=teacher, **numbers)
    expected = []
    for row in range(4):
        ids = batch["input_ids"][row : row + 1]
        h, taught = (m(ids)["last_hidden_state"][0, 6:8] for m in (student, teacher))
        z, z_taught = student.hidden_state_to_token(h), teacher.hidden_state_to_token(taught)
        p = (z_taught / temperature).softmax(-1)
        q = (z / temperature).softmax(-1)
        divergence = (p * (p / q).log()).sum(-1)
        cross_entropy = -z.softmax(-1)[[0, 1], ids[0, 7:]].log()
        cosine = (h * taught).sum(-1) / (h.norm(dim=-1) * taught.norm(dim=-1))
        expected.append(
            0.7 * cross_entropy + 0.3 * temperature**2 * divergence + 0.7 - 0.7 * cosine
        )
    torch.testing.assert_close(loss, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_a_teacher_adds_nothing_to_its_own_copy(teacher, batch):
    copied = student_of(teacher, range(3)).eval()
    loss = distillation_loss(copied, batch, teacher=teacher, alpha=1.0, hidden=1.0)
    assert abs(loss.item()) < 1e-4


def test_training_draws_the_student_to_the_teacher_alone(teacher, batch):
    student = student_of(teacher)
    loss = partial(distillation_loss, teacher=teacher, alpha=1.0)
    frozen = [p.clone() for p in teacher.parameters()]
    history = train(student, [batch], AdamW(student.parameters(), lr=1e-2), epochs=30, loss_fn=loss)
    assert history[-1].loss < 0.5 * history[0].loss
    assert all(map(torch.equal, frozen, teacher.parameters()))
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("layers", [[], [3], [-1, 0]])
def test_layers_that_the_teacher_does_not_have_are_refused(teacher, layers):
    with pytest.raises(ValueError, match=r"layers must be some of 0 to 2, got"):
        student_of(teacher, layers)


def test_another_vocabulary_is_refused(teacher, batch):
    student = GPT2Model(GPT2Config(**TINY | {"vocab_size": 120}))
    with pytest.raises(ValueError, match="the teacher has 101 tokens and the student 120; distill"):
        distillation_loss(student, batch, teacher=teacher)


@pytest.mark.parametrize("numbers", [{"temperature": 0}, {"alpha": 1.1}, {"hidden": -1}])
def test_numbers_out_of_range_are_refused(teacher, batch, numbers):
    with pytest.raises(ValueError, match=r"temperature must be above 0, alpha in \[0, 1\]"):
        distillation_loss(teacher, batch, teacher=teacher, **numbers)
