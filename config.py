"""Configurations: the shape of a GPT-2, and the handout's hyper-parameters as named presets."""

import json
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace

from utils import atomic_write, checkpoint_file

# Our name -> Hugging Face's for the same setting in config.json.
HF_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "attention_probs_dropout_prob": "attn_pdrop",
    "hidden_dropout_prob": "resid_pdrop",
}
# Hugging Face's settings that change the mathematics, with the only value that GPT-2 has.
PUBLISHED = {
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "quantization_config": None,
}
STORED_AS = ("dtype", "torch_dtype")  # says how a file has its weights, and not what the model is
ACTIVATIONS = ("gelu_new", "gelu", "relu")
GPT2_VOCABULARY = 50257  # its last token, 50256, is end-of-text
RANGES = {
    "of at least 0": lambda number: number >= 0,
    "of at least 1": lambda number: number >= 1,
    "of at least 2": lambda number: number >= 2,
    "above 0": lambda number: number > 0,
    "in [0, 1)": lambda number: 0 <= number < 1,
}


def _check_numbers(settings, needed: str, *names: str, whole=False, optional=False) -> None:
    """Raise ValueError unless the settings are finite numbers in one of RANGES."""
    for name in names:
        value = getattr(settings, name)
        if value is None and optional:
            continue
        is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not is_number or not RANGES[needed](value):
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"{name} must be {kind} {needed}, got {value!r}")
        if not abs(value) < 2**32:
            raise ValueError(f"{name} must be finite and below 2**32, got {value}")
        if not whole:  # 40 and 40.0 are the same setting
            object.__setattr__(settings, name, float(value))


def _check_choice(settings, name: str, *accepted: str) -> None:
    if getattr(settings, name) not in accepted:
        choices = ", ".join(f'"{choice}"' for choice in accepted)
        raise ValueError(f"{name} must be one of {choices}; got {getattr(settings, name)!r}")


class GPT2Config(SimpleNamespace):
    """The shape of a GPT-2; the defaults are the 124M model's (handout section 3.2).

    `intermediate_size=None` means 4·hidden_size. `attn_implementation` is "sdpa" (torch's fused
    kernel) or "eager" (the handout's formula). `activation_function` has Hugging Face's names:
    "gelu_new" is the tanh form of GELU, as in GPT-2, "gelu" the exact one, and "relu". Further
    keyword arguments become attributes. Raises ValueError, naming the field, for settings that
    cannot make a model.
    """

    def __init__(
        self,
        vocab_size=50257,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=None,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        max_position_embeddings=1024,
        initializer_range=0.02,
        layer_norm_eps=1e-5,
        pad_token_id=50256,
        *,
        attn_implementation="sdpa",
        activation_function="gelu_new",
        **extra,
    ):
        for name, value in extra.items():
            if hasattr(type(self), name):
                raise ValueError(f"{name}= is no setting: GPT2Config has a method of that name")
            meant = [ours for ours, theirs in HF_NAMES.items() if theirs == name]
            meant += get_close_matches(name, HF_NAMES, n=1, cutoff=0.85)
            if meant:
                raise ValueError(f"{name}= is not a setting of GPT2Config; write {meant[0]}=")
            setattr(self, name, value)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = 4 * hidden_size if intermediate_size is None else intermediate_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.pad_token_id = pad_token_id
        self.attn_implementation = attn_implementation
        self.activation_function = activation_function
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        sizes += ("intermediate_size", "max_position_embeddings")
        _check_numbers(self, "of at least 1", *sizes, whole=True)
        _check_numbers(self, "in [0, 1)", "hidden_dropout_prob", "attention_probs_dropout_prob")
        _check_numbers(self, "above 0", "initializer_range", "layer_norm_eps")
        ids = ("pad_token_id", *({"eos_token_id", "bos_token_id"} & extra.keys()))
        _check_numbers(self, "of at least 0", *ids, whole=True, optional=True)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} does not divide "
                f"hidden_size={self.hidden_size}: every head needs the same whole width"
            )
        _check_choice(self, "attn_implementation", "eager", "sdpa")
        _check_choice(self, "activation_function", *ACTIVATIONS)

    @classmethod
    def from_pretrained(cls, name_or_path):
        """Read the configuration of a folder with a `config.json`, or of a hub name.

        Raises FileNotFoundError, ConnectionError (offline and not cached), or ValueError for a
        file that is not this model's configuration.
        """
        path = checkpoint_file(name_or_path, "config.json")
        if path is None:
            raise FileNotFoundError(
                f"{name_or_path}: no config.json there; give a folder that save_pretrained wrote"
            )
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(settings, dict):
                raise ValueError(f"holds a {type(settings).__name__}, not a JSON object")
            return cls.from_dict(settings)
        except ValueError as error:  # a broken file's too
            raise ValueError(f"{path}: {error}; give a whole checkpoint of GPT-2") from error

    @classmethod
    def from_dict(cls, settings: dict):
        """Make a configuration from our names or Hugging Face's; where both are there, from ours.

        Raises ValueError for a checkpoint whose mathematics is not GPT-2's.
        """
        for name, published in PUBLISHED.items():
            if settings.get(name, published) != published:
                raise ValueError(f"{name} is {settings[name]!r}, but GPT-2 has {published!r}")
        settings = {name: value for name, value in settings.items() if name not in STORED_AS}
        for ours, theirs in HF_NAMES.items():
            value = settings.pop(theirs, None)
            if value is not None:
                settings.setdefault(ours, value)
        if settings.get("pad_token_id") is None:
            settings.pop("pad_token_id", None)
            if isinstance(settings.get("eos_token_id"), int):
                settings["pad_token_id"] = settings["eos_token_id"]
        return cls(**settings)

    def to_dict(self) -> dict:
        """Return our names and Hugging Face's side by side, so that either library reads them.

        The ids of end-of-text are GPT-2's for its own vocabulary; for another one they are null
        unless they were set, since the vocabulary's size does not say which token it is.
        """
        end_of_text = GPT2_VOCABULARY - 1 if self.vocab_size == GPT2_VOCABULARY else None
        return {
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            **vars(self),
            **{theirs: getattr(self, ours) for ours, theirs in HF_NAMES.items()},
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "embd_pdrop": self.hidden_dropout_prob,
        }

    def save_pretrained(self, folder) -> None:
        """Write `folder/config.json`; an error leaves the old file as it was.

        Raises TypeError for a setting that JSON cannot hold.
        """
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        with atomic_write(Path(folder) / "config.json") as path:
            path.write_text(text, encoding="utf-8")

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.to_dict() == other.to_dict()


@dataclass(frozen=True)
class TrainingSettings:
    """The hyper-parameters of a training run (AdamW's are named as in handout section 3.3)."""

    batch_size: int
    epochs: int
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    correct_bias: bool = True
    seed: int = 0
    accumulate: int = 1  # batches per optimizer step
    schedule: str = "constant"  # of the learning rate; or "linear" or "cosine"
    warmup: float = 0.0  # share of the steps
    end_rate: float = 0.0  # share of the learning rate that a falling schedule ends at
    max_grad_norm: float | None = None
    precision: str = "float32"  # or "bf16", or "auto": bf16 where the hardware has it

    def __post_init__(self):
        _check_numbers(self, "of at least 1", "batch_size", "epochs", "accumulate", whole=True)
        _check_numbers(self, "of at least 0", "seed", whole=True)
        _check_numbers(self, "of at least 0", "weight_decay", "end_rate")
        _check_numbers(self, "above 0", "learning_rate")
        _check_numbers(self, "above 0", "max_grad_norm", optional=True)
        _check_numbers(self, "in [0, 1)", "warmup")
        _check_choice(self, "schedule", "constant", "linear", "cosine")
        _check_choice(self, "precision", "float32", "bf16", "auto")
        object.__setattr__(self, "betas", tuple(self.betas))


@dataclass(frozen=True)
class PretrainingSettings(TrainingSettings):
    """A TrainingSettings with the model to start from scratch and the length of its texts."""

    max_len: int = 128  # tokens
    optimizer: str = "adamw"  # or "muon", for the blocks' matrices
    model: dict = field(default_factory=dict)  # the arguments of GPT2Config

    def __post_init__(self):
        super().__post_init__()
        _check_numbers(self, "of at least 2", "max_len", whole=True)
        _check_choice(self, "optimizer", "adamw", "muon")


TOY_PRETRAINING = PretrainingSettings(
    # Handout section 3.4. The feed-forward width of 3·hidden is the one that the published
    # curves were measured with.
    batch_size=4,
    epochs=3,
    learning_rate=1e-3,
    weight_decay=1e-4,
    max_len=128,
    model={
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "max_position_embeddings": 128,
    },
)
PRETRAIN_GPT2 = PretrainingSettings(
    # The recipe of the 124M model of Brown et al. (2020), table 2.1 and appendix B, on a text that
    # is read once: 16 · 32 · 1,024 = 524,288 tokens a step. GPT-2's own was never published.
    batch_size=16,
    accumulate=32,
    epochs=1,
    learning_rate=6e-4,
    weight_decay=0.1,
    betas=(0.9, 0.95),
    schedule="cosine",
    warmup=0.04,
    end_rate=0.1,
    max_grad_norm=1.0,
    precision="auto",
    max_len=1024,
    model={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 1024,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
)


@dataclass(frozen=True)
class FinetuningSettings(TrainingSettings):
    """A TrainingSettings for NLI: the training data and the recipe's options."""

    languages: tuple[str, ...] = ("en",)
    subset: float = 1.0  # the first rows of every language: a share, or a count if above 1
    examples: int | None = None  # rows per epoch, sampled from all languages; None: every row
    max_length: int = 1024  # tokens
    token_budget: int | None = None  # of a batch of similar lengths, beside batch_size rows
    text_loss: float = 0.0  # weight of the prompts' own loss beside the labels'

    def __post_init__(self):
        super().__post_init__()
        _check_numbers(self, "of at least 1", "max_length", whole=True)
        counts = ("examples", "token_budget")
        _check_numbers(self, "of at least 1", *counts, whole=True, optional=True)
        _check_numbers(self, "above 0", "subset")
        _check_numbers(self, "of at least 0", "text_loss")
        if not self.languages or isinstance(self.languages, str):
            raise ValueError(f'languages must be a tuple such as ("en",), got {self.languages!r}')
        object.__setattr__(self, "languages", tuple(self.languages))
        if len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages must differ from each other, got {self.languages}")
        if self.token_budget is not None and self.examples is not None:
            raise ValueError("token_budget reads every row once; leave out examples")


FINETUNE_ENGLISH = FinetuningSettings(  # handout section 4.3
    batch_size=4, epochs=1, learning_rate=5e-5, weight_decay=1e-2
)
FINETUNE_FAST = replace(  # for a GPU: fewer, larger steps, in bfloat16
    FINETUNE_ENGLISH,
    batch_size=64,
    token_budget=2048,
    schedule="linear",
    warmup=0.06,
    max_grad_norm=1.0,
    precision="auto",
)
FINETUNE_BEST = replace(FINETUNE_FAST, epochs=3, learning_rate=3e-5)  # rate: choose on dev
FINETUNE_TOY = replace(FINETUNE_ENGLISH, epochs=3, learning_rate=3e-4)  # for the toy model
FINETUNE_MINIATURE = replace(  # for the miniature: small steps would take many epochs
    FINETUNE_ENGLISH,
    batch_size=16,
    epochs=4,
    learning_rate=5e-4,
    schedule="linear",
    warmup=0.1,
    max_grad_norm=1.0,
)
