"""A pretraining run: finished ones are read, stopped ones resume, changed ones are others."""

import math
from dataclasses import replace
from inspect import signature

import pytest
import torch
import transformers

from config import TOY_PRETRAINING, GPT2Config
from experiments.pretraining import pretrain, read_texts, split_texts, token_bytes
from experiments.runs import new_scheduler
from gpt2.loss import mean_loss
from gpt2.text import TextDataset, text_loader
from gpt2.tokenizer import load_tokenizer
from utils import fingerprint

WHO, DOES, WHAT = ("cat", "dog"), ("sees", "likes"), ("sun", "sea", "wind")
LINES = [f"The {who} {does} the {what}." for who in WHO for does in DOES for what in WHAT]
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}
QUICK = replace(TOY_PRETRAINING, model=TINY, max_len=16)


@pytest.fixture
def go(tokenizer, tmp_path):
    def call(settings=QUICK, lines=LINES, **changes):
        path = tmp_path / "text.txt"
        path.write_text("\n".join(lines))
        texts = TextDataset(path, tokenizer, settings.max_len)
        parts = texts.split(0.25, seed=settings.seed)
        return pretrain(settings, *parts, **{"runs": tmp_path, "progress": False, **changes}), parts

    return call


def bits(run):
    return fingerprint(*run.model().state_dict().values())


def test_a_run_leaves_history_held_out_losses_and_model(go):
    run, (_, held_out) = go()
    history = run.history()
    assert [p.step for p in history] == list(range(1, 10)) and run.result["steps"] == 9
    assert history[-1].loss < history[0].loss
    losses = run.held_out()
    assert losses["step"].tolist() == [3, 6, 9]
    assert mean_loss(run.model(), text_loader(held_out, 32)) == pytest.approx(
        losses["held_out_loss"].iloc[-1], rel=1e-6
    )


def test_a_finished_run_is_not_trained_again(go, monkeypatch):
    run, _ = go()
    monkeypatch.setattr("experiments.pretraining.train", None)
    again, _ = go()
    assert again.path == run.path and bits(again) == bits(run)


def test_a_stopped_run_resumes_to_the_same_bits(go, tmp_path, monkeypatch):
    whole, _ = go()
    for step in (1, 3, 5):

        def stop(progress, step=step):
            if progress.step == step:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("experiments.pretraining.ProgressBar", lambda name, stop=stop: stop)
            patch.setattr("gpt2.checkpoints.Checkpoints.due", lambda self, progress: True)
            with pytest.raises(KeyboardInterrupt):
                go(runs=tmp_path / "stopped", progress=True)
    stopped, _ = go(runs=tmp_path / "stopped")
    assert bits(stopped) == bits(whole)
    assert [p.loss for p in stopped.history()] == [p.loss for p in whole.history()]
    assert stopped.held_out().equals(whole.held_out())


def test_bits_per_byte_follow_from_the_bytes_of_the_text(go):
    run, (_, held_out) = go()
    (*_, last) = run.held_out().to_dict("records")
    documents = [ids[mask.bool()] for ids, mask in held_out]
    predicted = sum(len(ids) - 1 for ids in documents)
    tokenizer = load_tokenizer()
    size = sum(len(tokenizer.decode(ids[1:-1]).encode()) for ids in documents)  # no end-of-text
    expected = last["held_out_loss"] * predicted / size / math.log(2)
    assert last["bits_per_byte"] == pytest.approx(expected, rel=1e-6)


def test_of_several_texts_each_is_held_out_in_part_and_measured(tokenizer, tmp_path):
    files = {"dogs": [line * 2 for line in LINES], "birds": [f"A bird {n}." for n in range(30)]}
    texts = {}
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines))
        texts[name] = TextDataset(tmp_path / name, tokenizer, 16)
    train_texts, held_out, by_text = split_texts(texts, seed=0)
    assert len(train_texts) == 38 and len(held_out) == 4
    run = pretrain(QUICK, train_texts, held_out, also=by_text, runs=tmp_path, progress=False)
    table = run.by_text().set_index("text")
    assert [*table.index] == ["all", "dogs", "birds"]
    tokens = {name: sum(int(mask.sum()) - 1 for _, mask in by_text[name]) for name in files}
    mean = sum(table["held_out_loss"][name] * tokens[name] for name in files) / sum(tokens.values())
    assert table["held_out_loss"]["all"] == pytest.approx(mean, rel=1e-6)


def test_a_text_of_any_name_changes_neither_the_run_nor_its_table(go, tmp_path):
    """Their names may be those of the run's own inputs."""
    _, (texts, held_out) = go()
    for name in ("train", "held_out", "all"):
        settings = {"also": {name: texts}, "runs": tmp_path, "progress": False}
        run = pretrain(QUICK, texts, held_out, **settings)
        assert run.by_text()["text"].tolist() == ["all", name]
        loss = mean_loss(run.model(), text_loader(held_out, 32))
        assert run.by_text()["held_out_loss"][0] == pytest.approx(loss, rel=1e-6)
        assert pretrain(QUICK, held_out, held_out, **settings).path != run.path


def test_a_text_too_short_to_hold_a_part_out_is_named(tokenizer, tmp_path):
    (tmp_path / "short.txt").write_text("One.\n")
    texts = read_texts([tmp_path / "short.txt"], QUICK, tokenizer)
    with pytest.raises(ValueError, match=r"short: held_out=0\.1 of 1 documents .* longer text"):
        split_texts(texts, seed=0)
    with pytest.raises(ValueError, match="no text to train on"):
        split_texts({}, seed=0)


def test_tokens_have_the_bytes_of_their_text(tokenizer):
    sizes = token_bytes(tokenizer)
    for text in ("The cat", "Łódź, 猫 и кот", "a\n\tb"):
        assert sizes[tokenizer(text)["input_ids"]].sum() == len(text.encode())
    assert sizes[tokenizer.eos_token_id] == 0


def test_a_recipe_decides_schedule_steps_and_optimizer(go):
    settings = replace(QUICK, schedule="linear", warmup=0.5, end_rate=0.1, max_grad_norm=0.1)
    history = go(replace(settings, accumulate=2, optimizer="muon"))[0].history()
    assert len(history) == 6 and history[0].learning_rate == 0
    rates = [step.learning_rate for step in history]
    assert max(rates) == rates[3] == pytest.approx(1e-3)
    assert rates[5] == pytest.approx((0.1 + 0.9 / 3) * 1e-3)


def test_accumulated_batches_make_the_same_curve(go):
    still = QUICK.model | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    large = go(replace(QUICK, model=still, batch_size=4))[0].history()
    small = go(replace(QUICK, model=still, batch_size=2, accumulate=2))[0].history()
    assert [s.loss for s in small] == pytest.approx([s.loss for s in large], rel=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.5])
def test_schedules_are_those_of_transformers(schedule, warmup):
    settings, steps = replace(QUICK, schedule=schedule, warmup=warmup), 37
    name = schedule.replace("constant", "constant_with_warmup")
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1) for _ in range(2)]
    ours = new_scheduler(optimizers[0], settings, steps)
    theirs = transformers.get_scheduler(name, optimizers[1], round(warmup * steps), steps)
    for _ in range(steps + 3):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), abs=1e-15)
        for scheduler, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.step()
            scheduler.step()


def test_other_settings_or_texts_are_other_runs(go):
    paths = {go()[0].path, go(replace(QUICK, seed=1))[0].path, go(lines=LINES[:-1])[0].path}
    assert len(paths) == 3


def test_other_defaults_of_the_model_are_another_run(go, monkeypatch):
    run, _ = go()
    monkeypatch.setattr(GPT2Config.__init__, "__defaults__", changed_dropout())
    assert go()[0].path != run.path


def changed_dropout() -> tuple:
    names = list(signature(GPT2Config.__init__).parameters)[1:]
    defaults = dict(zip(names, GPT2Config.__init__.__defaults__, strict=False))
    return tuple({**defaults, "hidden_dropout_prob": 0.2}.values())
