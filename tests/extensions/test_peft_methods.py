"""Any method of peft attaches to the model's separate query, key and value, and trains."""

import peft
import pytest
import torch

from gpt2.train import train
from optim import AdamW
from tests.hugging_face import batch_of, small_model

SEPARATE = {"target_modules": ["query", "key", "value"]}
METHODS = {
    "LoRA": peft.LoraConfig(r=2, **SEPARATE),
    "DoRA": peft.LoraConfig(r=2, use_dora=True, **SEPARATE),
    "PiSSA": peft.LoraConfig(r=2, init_lora_weights="pissa", **SEPARATE),
    "IA3": peft.IA3Config(feedforward_modules=[], **SEPARATE),
    "LoHa": peft.LoHaConfig(r=2, **SEPARATE),
    "LoKr": peft.LoKrConfig(r=2, **SEPARATE),
    "OFT": peft.OFTConfig(oft_block_size=4, **SEPARATE),
    "BOFT": peft.BOFTConfig(boft_block_size=4, **SEPARATE),
    "VeRA": peft.VeraConfig(r=2, **SEPARATE),
    "LN-tuning": peft.LNTuningConfig(
        target_modules=["attention_layer_norm", "out_layer_norm", "final_layer_norm"]
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("method", METHODS)
def test_a_method_of_pefts_attaches_and_trains(method):
    model = small_model(initializer_range=0.3)
    untouched = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model = peft.get_peft_model(model, METHODS[method]).base_model.model
    before = {name: p.clone() for name, p in model.named_parameters()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    batches = [batch_of([9, 9], 9, 50)]
    train(model, batches, AdamW(model.parameters(), lr=1e-2))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed and changed <= trained
    assert not trained & untouched.keys()
