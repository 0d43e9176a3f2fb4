"""GPT-2's family: checkpoints of the same architecture with other sizes, ids and tokenizers.

The configurations are the published ones but for width and depth; weights are random.
"""

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from config import GPT2Config
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.model import GPT2Model
from gpt2.prompts import label_tokens
from gpt2.tokenizer import load_tokenizer, prefix_ids
from gpt2.xnli import XNLI, XNLIDataset
from tests.hugging_face import batch_of

TINY = {"n_embd": 16, "n_head": 2, "n_layer": 2}
COMMON = {
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "resid_pdrop": 0.1,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "torch_dtype": "float32",
    "use_cache": True,
}
GOLDFISH = COMMON | {  # goldfish-models/eng_latn_100mb: n_embd 768, n_inner 3072, 12 layers
    "_name_or_path": "gpt_base_config.json",
    "activation_function": "gelu",
    "bos_token_id": 50000,
    "eos_token_id": 50001,
    "n_ctx": 512,
    "n_inner": 64,
    "n_positions": 512,
    "pad_token_id": 50002,
    "prefix": "[CLS]",
    "reorder_and_upcast_attn": False,
    "scale_attn_by_inverse_layer_idx": False,
    "transformers_version": "4.18.0",
    "vocab_size": 51200,
}
MGPT = COMMON | {  # ai-forever/mGPT: n_embd 2048, 16 heads, 24 layers
    "activation_function": "gelu_new",
    "bos_token_id": 0,
    "eos_token_id": 5,
    "gradient_checkpointing": False,
    "n_ctx": 2048,
    "n_inner": None,
    "n_positions": 2048,
    "pad_token_id": 1,
    "transformers_version": "4.10.3",
    "vocab_size": 100000,
}
CONFIGS = {"Goldfish": GOLDFISH | TINY, "mGPT": MGPT | TINY}


def goldfish_tokenizer():
    """SentencePiece's unigrams, 50,000, and three tokens behind them around every text."""
    pieces = ["<unk>", "▁", *map(chr, range(33, 127)), "▁Premise:", "▁Hypothesis:", "▁Label:"]
    pieces += [f"▁filler{i}" for i in range(50000 - len(pieces))]
    vocabulary = [(piece, -1.0 - i / 1000) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = {"bos_token": "[CLS]", "eos_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer.add_special_tokens(list(special.values()))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer, special


def mgpt_tokenizer():
    """GPT-2's byte-level BPE with 100,000 tokens, the special ones first."""
    first = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    tokens = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [f"filler{i}" for i in range(100000 - len(tokens))]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<pad>"}


@pytest.fixture(scope="module", params=CONFIGS)
def checkpoint(request, tmp_path_factory):
    """(folder, transformers' own model), as such a checkpoint lies on the hub."""
    folder, config = tmp_path_factory.mktemp(request.param), CONFIGS[request.param]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config.from_pretrained(folder)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    make = goldfish_tokenizer if request.param == "Goldfish" else mgpt_tokenizer
    backend, special = make()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_logits_agree_with_transformers_up_to_the_last_position(side, attention, checkpoint):
    folder, theirs = checkpoint
    ours = GPT2Model.from_pretrained(folder, attn_implementation=attention)
    positions, vocabulary = theirs.config.n_positions, theirs.config.vocab_size
    ids, mask = batch_of([positions, 90], positions, vocabulary, side)
    states = ours(ids, mask)["last_hidden_state"]
    for row in range(2):
        real = mask[row].bool()
        expected = theirs(ids[row][real][None]).logits[0, -40:]
        logits = ours.hidden_state_to_token(states[row][real][-40:])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=f"but this model has {positions}; cut the text"):
        ours(torch.zeros(1, positions + 1, dtype=torch.long))


def test_its_tokenizer_has_the_configurations_ids_and_writes_the_labels(checkpoint):
    folder, _ = checkpoint
    config, tokenizer = GPT2Config.from_pretrained(folder), load_tokenizer(folder)
    ids = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    assert ids == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(tokenizer) <= config.vocab_size
    labels = label_tokens(tokenizer, XNLI.prompt, XNLI.labels)
    assert [tokenizer.decode(ids).strip() for ids in labels] == ["0", "1", "2"]


@torch.no_grad()
def test_its_data_set_predicts_as_transformers_does(checkpoint, tmp_path):
    folder, theirs = checkpoint
    ours, tokenizer = GPT2Model.from_pretrained(folder), load_tokenizer(folder)
    path = tmp_path / "dev.tsv"
    pairs = [f"It rains {'again ' * i}.\tIt is {word}.\tneutral" for i in (0, 9) for word in "abc"]
    path.write_text("\n".join(["premise\thypo\tlabel", *pairs]) + "\n")
    data = XNLIDataset("dev", "en", dev_path=str(path), tokenizer=tokenizer, max_length=512)
    prompts = [data[i]["input_ids"] for i in range(len(data))]
    for prompt in prompts:  # [CLS] comes first, but [SEP] not between the prompt and its label
        assert prompt[: len(prefix_ids(tokenizer))].tolist() == prefix_ids(tokenizer)
        assert prompt[-1] != tokenizer.eos_token_id
    tokens, _ = answer(ours, prompts, [])
    expected = [theirs(prompt[None]).logits[0, -1].argmax().item() for prompt in prompts]
    assert tokens.tolist() == expected


def test_greedy_text_equals_transformers_and_ends_at_its_own_end(checkpoint):
    folder, theirs = checkpoint
    ours = GPT2Model.from_pretrained(folder)
    ids = torch.arange(20, 28)[None]
    settings = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 12}
    expected = theirs.generate(ids, **settings)[:, 8:]
    assert generate(ours, ids, max_new_tokens=12).tolist() == expected.tolist()
    end = expected[0, 3].item()  # as if this token were end-of-text
    ours.config.eos_token_id = theirs.generation_config.eos_token_id = end
    expected = theirs.generate(ids, **settings)[:, 8:]
    assert generate(ours, ids, max_new_tokens=12).tolist() == expected.tolist()
    assert expected.size(1) <= 4


def test_saved_again_it_has_the_same_ids_and_weights(checkpoint, tmp_path):
    folder, theirs = checkpoint
    ours, tokenizer = GPT2Model.from_pretrained(folder), load_tokenizer(folder)
    ours.save_pretrained(tmp_path, tokenizer)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size", "n_positions"):
        assert getattr(again.config, name) == getattr(theirs.config, name)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    text = "It rains. Label:0"
    assert load_tokenizer(tmp_path)(text).input_ids == tokenizer(text).input_ids
