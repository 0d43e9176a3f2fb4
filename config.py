"""Configurations: the shape of a GPT-2, and the handout's hyper-parameters as named presets."""

import json
import math
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path

from utils import atomic_write

# Hugging Face's names for the same things, in its config.json files.
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
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu")


class PretrainedConfig:
    """A model's settings as attributes, to and from `config.json`."""

    def __init__(self, **extra):
        for name, value in extra.items():
            setattr(self, name, value)

    def to_dict(self) -> dict:
        return dict(vars(self))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({settings})"

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.to_dict() == other.to_dict()

    __hash__ = None  # settings can be changed, so they are no dictionary key

    def save_pretrained(self, folder) -> None:
        """Write `folder/config.json`, whole or not at all."""
        text = self.to_json()
        with atomic_write(Path(folder) / "config.json") as path:
            path.write_text(text, encoding="utf-8")

    def to_json(self) -> str:
        """The text of config.json; TypeError names a setting that JSON can't hold."""
        settings = self.to_dict()
        for name, value in settings.items():
            try:
                json.dumps(value)
            except TypeError as error:
                raise TypeError(f"config.{name}={value!r} can't be saved: {error}") from error
        return json.dumps(settings, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pretrained(cls, path):
        """The configuration in `path`, a `config.json` or the folder that holds one."""
        path = Path(path)
        if path.is_dir():
            path = path / "config.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file; give the folder that save_pretrained wrote"
            )
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: not a JSON file ({error}); fetch it again") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{path}: holds a {type(settings).__name__}, not a JSON object")
        return cls.from_dict(settings, source=str(path))

    @classmethod
    def from_dict(cls, settings: dict, source: str = "config"):
        return cls(**settings)


class GPT2Config(PretrainedConfig):
    """The shape of a GPT-2; the defaults are the 124M model's (handout section 3.2).

    `attn_implementation` picks how attention is computed: "sdpa" is torch's fused kernel,
    "eager" the handout's formula line by line. `intermediate_size=None` means 4·hidden_size.
    Further keyword arguments are kept as attributes.

    Raises ValueError, naming the field, for sizes that can't make a model.
    """

    model_type = "gpt2"

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
        fields = [name for name in signature(type(self)).parameters if name != "extra"]
        for name in extra:
            ours = {theirs: ours for ours, theirs in HF_NAMES.items()}.get(name)
            meant = [ours] if ours else get_close_matches(name, fields, n=1, cutoff=0.85)
            if meant:
                raise ValueError(f"{name}= is not a setting of GPT2Config; write {meant[0]}=")
        super().__init__(**extra)
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
        self._check()

    def _check(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} does not divide "
                f"hidden_size={self.hidden_size}: every head needs the same whole width"
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}")
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}")
        if self.attn_implementation not in ("eager", "sdpa"):
            raise ValueError(
                f'attn_implementation must be "eager" or "sdpa", got {self.attn_implementation!r}'
            )
        if self.activation_function not in ACTIVATIONS:
            raise ValueError(
                f"activation_function must be one of {', '.join(ACTIVATIONS)}, "
                f"got {self.activation_function!r}"
            )

    @classmethod
    def from_dict(cls, settings: dict, source: str = "config"):
        """From our names or Hugging Face's; of two for the same thing, ours counts.

        Raises ValueError for a checkpoint whose mathematics is not GPT-2's.
        """
        if settings.get("model_type", "gpt2") != "gpt2":
            raise ValueError(
                f'{source}: model_type is "{settings["model_type"]}", not "gpt2"; '
                "give a GPT-2 checkpoint"
            )
        for name, needed in (
            ("scale_attn_by_inverse_layer_idx", False),
            ("scale_attn_weights", True),
            ("tie_word_embeddings", True),
        ):
            if settings.get(name, needed) != needed:
                raise ValueError(f"{source}: {name}={settings[name]} is not GPT-2 as published")
        settings = dict(settings)
        for ours, theirs in HF_NAMES.items():
            value = settings.pop(theirs, None)
            if ours not in settings and value is not None:
                settings[ours] = value
        for name in ("model_type", "architectures", "n_ctx", "embd_pdrop"):
            settings.pop(name, None)
        for name in ("transformers_version", "torch_dtype", "dtype", "_name_or_path"):
            settings.pop(name, None)
        if settings.get("pad_token_id", 0) is None:
            del settings["pad_token_id"]
        try:
            return cls(**settings)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    def to_dict(self) -> dict:
        """Our names and Hugging Face's side by side, so that either library reads the file."""
        settings = super().to_dict()
        settings.update({theirs: settings[ours] for ours, theirs in HF_NAMES.items()})
        settings.update(
            model_type="gpt2",
            architectures=["GPT2LMHeadModel"],
            embd_pdrop=self.hidden_dropout_prob,
        )
        return settings


@dataclass(frozen=True)
class TrainingSettings:
    """The hyper-parameters of a training run (AdamW's are named as in handout section 3.3)."""

    batch_size: int
    epochs: int
    learning_rate: float
    weight_decay: float
    correct_bias: bool = True
    seed: int = 0

    def __post_init__(self):
        for each in fields(self):
            if each.type in (int, float, int | None, float | None):
                optional = each.type in (int | None, float | None)
                self._check(each.name, each.type in (int, int | None), optional)

    def _check(self, name: str, whole: bool, optional: bool) -> None:
        """ValueError for what is no number where one is needed, or none that makes sense."""
        value = getattr(self, name)
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            needed = "a whole number" if whole else "a number"
            raise ValueError(f"{name} must be {needed}, got {value!r}")
        lowest = 0 if name in ("seed", "weight_decay", "warmup") else 1 if whole else None
        if not math.isfinite(value) or abs(value) >= 2**32:
            raise ValueError(f"{name} must be finite and below 2**32, got {value}")
        if value <= 0 if lowest is None else value < lowest:
            least = "above 0" if lowest is None else f"at least {lowest}"
            raise ValueError(f"{name} must be {least}, got {value}")
        if not whole:  # 40 and 40.0 are the same setting
            object.__setattr__(self, name, float(value))


@dataclass(frozen=True)
class PretrainingSettings(TrainingSettings):
    """A TrainingSettings with the model to start from scratch and the length of its texts."""

    max_len: int = 128  # tokens
    model: dict = field(default_factory=dict)  # what GPT2Config gets


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


@dataclass(frozen=True)
class FinetuningSettings(TrainingSettings):
    """A TrainingSettings for NLI: what is learnt from, and the recipe's options."""

    languages: tuple[str, ...] = ("en",)
    subset: float = 1.0  # of every language: the first rows, a share or (above 1) a count
    per_label: int | None = None  # rows of each label, drawn by the seed, out of the subset
    examples: int | None = None  # rows an epoch, of all languages together; None: each row once
    temperature: float = 1.0  # of languages' shares: 1 in proportion, larger more equal
    max_length: int = 1024  # tokens
    token_budget: int | None = None  # batches of similar lengths instead of batch_size rows
    accumulate: int = 1  # batches a step
    schedule: str = "constant"  # of the learning rate; or "linear" or "cosine", down to 0
    warmup: float = 0.0  # share of the steps
    max_grad_norm: float | None = None
    precision: str = "float32"  # or "bf16", or "auto": bf16 where the machine multiplies in it
    compile: bool = False  # the blocks by torch.compile, for a GPU; dropout draws other numbers

    def __post_init__(self):
        super().__post_init__()
        if not self.languages or isinstance(self.languages, str):
            raise ValueError(f'languages must be a tuple such as ("en",), got {self.languages!r}')
        object.__setattr__(self, "languages", tuple(self.languages))
        if self.schedule not in ("constant", "linear", "cosine"):
            raise ValueError(
                f'schedule must be "constant", "linear" or "cosine", got {self.schedule!r}'
            )
        if self.warmup >= 1:
            raise ValueError(f"warmup is a share of the steps in [0, 1), got {self.warmup}")
        if self.temperature < 1:
            raise ValueError(f"temperature must be at least 1, got {self.temperature}")
        if self.token_budget is not None and (self.examples is not None or self.temperature != 1):
            raise ValueError(
                "token_budget makes batches of every row once; leave examples and temperature out"
            )
        if self.precision not in ("float32", "bf16", "auto"):
            raise ValueError(
                f'precision must be "float32", "bf16" or "auto", got {self.precision!r}'
            )


FINETUNE_ENGLISH = FinetuningSettings(  # handout section 4.3
    batch_size=4, epochs=1, learning_rate=5e-5, weight_decay=1e-2
)
FINETUNE_FAST = replace(  # for a GPU: fewer, larger steps, in bfloat16
    FINETUNE_ENGLISH,
    batch_size=32,
    token_budget=2048,
    schedule="linear",
    warmup=0.06,
    max_grad_norm=1.0,
    precision="auto",
)


FINETUNE_TOY = replace(FINETUNE_ENGLISH, epochs=3, learning_rate=3e-4)  # for the toy model
