"""The demo's page and the Python behind it, without a browser."""

import json
import re

import numpy as np
import pytest
import torch

from config import GPT2Config
from extensions.demo import inspection
from extensions.demo.command import demo, find_model
from extensions.demo.examples import examples, used_tokens
from extensions.demo.export import compress, decompress, export_page, pack
from extensions.demo.page import make_page, page_info
from extensions.demo.vocabulary import merges, token_bytes
from gpt2.model import GPT2Model
from gpt2.xnli import LANGUAGES

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT2Model(GPT2Config(**SMALL, max_position_embeddings=128, initializer_range=0.2)).eval()


@pytest.fixture(scope="module")
def info(model, tokenizer):
    return page_info(model, tokenizer, "test")


# ---- Vocabulary and examples -------------------------------------------------------------------


def test_tokens_have_the_bytes_of_their_text(tokenizer):
    pieces = token_bytes(tokenizer)
    text = "Hello  wörld,\n\tสวัสดี 👩‍🚀 नमस्ते\x00 \u0301"
    ids = tokenizer(text)["input_ids"]
    assert b"".join(pieces[id] for id in ids) == text.encode()
    assert sorted(piece[0] for piece in pieces[:256]) == list(range(256))


def test_every_merge_makes_the_next_id(tokenizer):
    pieces, pairs = token_bytes(tokenizer), merges(tokenizer)
    joined = [pieces[left] + pieces[right] for left, right in pairs]
    assert joined == pieces[256 : 256 + len(pairs)]
    assert len(pieces) == 256 + len(pairs) + 1 and pieces[-1] == b"<|endoftext|>"


def test_examples_have_each_label_for_each_premise():
    pairs = examples()
    for start in range(0, len(pairs), 3):
        triple = pairs[start : start + 3]
        assert {pair["label"] for pair in triple} == {"entailment", "contradiction", "neutral"}
        assert len({pair["texts"]["en"][0] for pair in triple}) == 1
    assert all(tuple(pair["texts"]) == LANGUAGES for pair in pairs)
    assert len({pair["phenomenon"] for pair in pairs}) == len(pairs) / 3 >= 5


# ---- Rounded weights ---------------------------------------------------------------------------


def test_rounded_weights_are_near_the_originals(model):
    used = np.array([0, 5, 50256])
    rounded = decompress(compress(model, used), model.config)
    for name, weight in model.state_dict().items():
        error = (rounded.state_dict()[name] - weight).abs()
        bound = weight.abs() / 1024
        if name == "word_embedding.weight":
            largest = weight.abs().amax(dim=1, keepdim=True).expand_as(weight).clone()
            largest[used] = 0
            bound = bound + largest / 160 * 1.01
        assert (error <= bound + 1e-7).all(), name


def test_rounding_twice_changes_nothing(model):
    used = np.arange(300)
    once = decompress(compress(model, used), model.config)
    arrays, again = compress(once, used), compress(model, used)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_packed_arrays_start_where_the_list_says(model):
    import gzip

    arrays = compress(model, np.arange(256))
    tensors, packed = pack(arrays)
    whole = gzip.decompress(packed)
    for tensor in tensors:
        array = arrays[tensor["name"]]
        assert tensor["start"] % 4 == 0
        assert whole[tensor["start"] :][: array.nbytes] == array.tobytes()


# ---- The page ----------------------------------------------------------------------------------


def test_the_page_names_no_address(info):
    page = make_page(info, b"weights")
    code = page.partition('<script type="application/json"')[0] + page.rpartition("<script>")[2]
    addresses = set(re.findall(r"(?:https?|wss?|file)://[^\s\"']*", code))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "src=" not in code and "@import" not in code and "url(" not in code


def test_the_page_s_policy_forbids_the_network(info):
    assert "connect-src 'none'" in make_page(info, b"weights")
    assert "connect-src 'self'" in make_page(info)
    assert "default-src 'none'" in make_page(info) and "unsafe" not in make_page(info)


def test_a_name_cannot_end_the_data(info):
    name = "</script><script>alert(1)</script>"
    page = make_page(info | {"name": name})
    assert name not in page
    data = re.search(r'id="info">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data)["name"] == name


def test_a_model_that_is_too_large_is_not_exported(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("extensions.demo.export.used_tokens", lambda _: np.arange(256))
    monkeypatch.setattr("extensions.demo.export.LIMIT", 100_000)
    with pytest.raises(ValueError, match=r"the page would have 1\.\d MB, but at most 0\.1 open"):
        export_page(model, tokenizer, "large", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_another_activation_is_not_exported(tokenizer, tmp_path):
    model = GPT2Model(GPT2Config(**SMALL, activation_function="relu"))
    with pytest.raises(ValueError, match="the page computes gelu_new, but the model has relu"):
        export_page(model, tokenizer, "relu", tmp_path / "page.html")


# ---- Inspection --------------------------------------------------------------------------------

IDS, LABELS = [15, 500, 20000, 4, 4, 50256], [15, 16, 17]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_inspection_shows_what_the_model_computes(model, implementation):
    for layer in model.gpt_layers:
        layer.self_attention.attn_implementation = implementation
    found = inspection.analyze(model, IDS, LABELS)
    with torch.no_grad():
        state = model(torch.tensor([IDS]))["last_token"][0]
        expected = model.hidden_state_to_token(state).softmax(dim=-1)
    torch.testing.assert_close(torch.tensor(found["probabilities"]), expected[LABELS])
    torch.testing.assert_close(torch.tensor(found["lens"][-1]), expected[LABELS])
    assert len(found["lens"]) == 3 and len(found["attention"]) == 2
    for weights in found["attention"]:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(4, len(IDS)))
        assert weights.triu(1).abs().max() == 0
    ((first, probability), *_) = inspection.candidates(model, IDS, 5)
    assert first == expected.argmax() and probability == pytest.approx(float(expected.max()))
    assert inspection.label_probabilities(model, IDS, LABELS) == found["probabilities"]


def test_without_all_heads_of_a_layer_only_its_bias_is_left(model):
    heads = [(1, head) for head in range(4)]
    ablated = inspection.label_probabilities(model, IDS, LABELS, heads)
    dense = model.gpt_layers[1].attention_dense
    weight = dense.weight.detach().clone()
    with torch.no_grad():
        dense.weight.zero_()
        expected = inspection.label_probabilities(model, IDS, LABELS)
        dense.weight.copy_(weight)
    assert ablated == pytest.approx(expected, rel=1e-5)
    assert ablated != inspection.label_probabilities(model, IDS, LABELS)


def test_no_hook_is_left_behind(model):
    inspection.analyze(model, IDS, LABELS, [(0, 1)])
    with pytest.raises(ValueError, match="there is no head 4 in layer 1: the model has layers 0"):
        inspection.analyze(model, IDS, LABELS, [(0, 1), (1, 4)])
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_attention_is_sent_without_what_is_zero():
    import base64

    weights = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    (text,) = inspection.below_diagonal(weights)
    assert list(base64.b64decode(text)) == [255, 64, 191]


# ---- The command -------------------------------------------------------------------------------


def test_a_run_s_folder_means_its_model(tmp_path):
    (tmp_path / "best_model").mkdir()
    assert find_model(str(tmp_path)) == tmp_path / "best_model"
    assert find_model("some/folder") == "some/folder"


def test_a_checkpoint_that_does_not_fit_is_one_sentence(tmp_path):
    GPT2Model(GPT2Config(100, 8, 1, 1, pad_token_id=0)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has 100 tokens, but the page's tokenizer is GPT-2's"):
        demo(weights=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="neither a folder here nor a model"):
        demo(weights="no/such/folder/here")


@pytest.mark.all
def test_the_small_world_uses_few_tokens(tokenizer):
    used = used_tokens(tokenizer)
    assert 500 < len(used) < 5000 and set(range(256)) <= set(used.tolist())
