"""Tiny causal models of transformers with random weights, a family each."""

import tokenizers
import torch
import transformers

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
