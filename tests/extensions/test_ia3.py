"""IA³: the numbers and files of peft."""

import peft
import torch

from extensions import ia3
from gpt2.loss import next_token_loss
from tests.extensions.methods import move
from tests.extensions.test_lora import VOCAB, base, outputs
from tests.hugging_face import batch_of

CONFIG = {"target_modules": ["key", "value", "out_dense"], "feedforward_modules": ["out_dense"]}


def test_files_outputs_and_gradients_equal_pefts_both_ways(tmp_path, recwarn):
    ours = base()
    ia3.attach(ours)
    move(ours)
    ia3.save(ours, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(base(), tmp_path / "ours", is_trainable=True)
    assert not [w for w in recwarn if "keyword" in str(w.message)]
    assert (outputs(ours) - outputs(base())).abs().max() > 0.1
    torch.testing.assert_close(outputs(ours), outputs(theirs), rtol=0, atol=1e-5)
    batch = batch_of([5, 9, 2], 9, VOCAB)
    for model in (ours, theirs.base_model.model):
        next_token_loss(model, batch).backward()
    gradients = [p.grad for p in ours.parameters() if p.requires_grad]
    expected = [p.grad for p in theirs.parameters() if p.requires_grad]
    assert len(gradients) == len(expected) == 6
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-5)

    theirs = peft.get_peft_model(base(), peft.IA3Config(**CONFIG)).eval()
    move(theirs, seed=2)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = base()
    ia3.load(ours, tmp_path / "theirs")
    torch.testing.assert_close(outputs(ours), outputs(theirs), rtol=0, atol=1e-5)


def test_a_vector_scales_the_output_or_the_input():
    model = base()
    ia3.attach(model)
    key, dense = model.gpt_layers[0].self_attention.key, model.gpt_layers[0].out_dense
    move(model)
    x, wide = torch.randn(4, 16), torch.randn(4, 64)
    scale = key.adapters["default"].ia3_l.flatten()
    torch.testing.assert_close(key(x), key.base_layer(x) * scale)
    scale = dense.adapters["default"].ia3_l.flatten()
    torch.testing.assert_close(dense(wide), dense.base_layer(wide * scale))
    ia3.detach(model)
    ia3.attach(model, targets="key", feedforward=())
    assert sum(p.requires_grad for p in model.parameters()) == 2
