"""Configurations: the shape of a GPT-2, and the handout's hyper-parameters as named presets."""

import json
import math
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path

from utils import atomic_write, checkpoint_files

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
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "quantization_config": None,
}
# Settings that say nothing about the model, or what another setting says already.
REDUNDANT = (
    *("model_type", "architectures", "n_ctx", "embd_pdrop", "transformers_version"),
    *("torch_dtype", "dtype", "_name_or_path", "_attn_implementation_autoset"),
)
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu")
GPT2_VOCABULARY = 50257  # its last token, 50256, is end-of-text


def _check_choice(settings, name: str, *accepted: str) -> None:
    if getattr(settings, name) not in accepted:
        choices = ", ".join(f'"{choice}"' for choice in accepted)
        raise ValueError(f"{name} must be one of {choices}; got {getattr(settings, name)!r}")


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

    __hash__ = None  # settings can change, so they cannot be a dictionary's key

    def save_pretrained(self, folder) -> None:
        """Write `folder/config.json`; an error leaves the old file as it was."""
        text = self.to_json()
        with atomic_write(Path(folder) / "config.json") as path:
            path.write_text(text, encoding="utf-8")

    def to_json(self) -> str:
        """Return the text of config.json; TypeError names a setting that JSON cannot hold."""
        settings = self.to_dict()
        for name, value in settings.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise TypeError(f"config.{name}={value!r} cannot be saved: {error}") from error
        return json.dumps(settings, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pretrained(cls, name_or_path):
        """Read a configuration: a `config.json`, the folder that holds one, or a hub name.

        Raises FileNotFoundError, ConnectionError (offline and not cached), or ValueError for a
        file that is not this model's configuration.
        """
        path = Path(name_or_path)
        if not path.is_file():
            path = checkpoint_files(name_or_path)("config.json")
        if path is None:
            raise FileNotFoundError(
                f"{name_or_path}: no config.json there; give a folder that save_pretrained wrote"
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

    `intermediate_size=None` means 4·hidden_size. `attn_implementation` is "sdpa" (torch's fused
    kernel) or "eager" (the handout's formula). `activation_function` has Hugging Face's names:
    "gelu_new" (also "gelu_pytorch_tanh", "gelu_fast") is the tanh form of GELU, as in GPT-2,
    "gelu" the exact one, and "relu". Further keyword arguments become attributes.

    Raises ValueError, naming the field, for settings that cannot make a model.
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
        def number(value) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool)

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
            if not number(value) or not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}")
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not number(value) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value!r}")
        _check_choice(self, "attn_implementation", "eager", "sdpa")
        _check_choice(self, "activation_function", *ACTIVATIONS)

    @classmethod
    def from_dict(cls, settings: dict, source: str = "config"):
        """Make a configuration from our names or Hugging Face's; where both are there, from ours.

        Raises ValueError for a checkpoint whose mathematics is not GPT-2's.
        """
        if settings.get("model_type", "gpt2") != "gpt2":
            raise ValueError(
                f'{source}: model_type is "{settings["model_type"]}", not "gpt2"; '
                "give a GPT-2 checkpoint"
            )
        for name, published in PUBLISHED.items():
            if settings.get(name, published) != published:
                raise ValueError(
                    f"{source}: {name}={settings[name]}, but this GPT-2 can only compute "
                    f"{name}={published}; give another checkpoint"
                )
        settings = {name: value for name, value in settings.items() if name not in REDUNDANT}
        for ours, theirs in HF_NAMES.items():
            value = settings.pop(theirs, None)
            if ours not in settings and value is not None:
                settings[ours] = value
        if settings.get("pad_token_id") is None:
            settings.pop("pad_token_id", None)
            if isinstance(settings.get("eos_token_id"), int):
                settings["pad_token_id"] = settings["eos_token_id"]
        try:
            return cls(**settings)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    def to_dict(self) -> dict:
        """Return our names and Hugging Face's side by side, so that either library reads them.

        The ids of end-of-text are GPT-2's for its own vocabulary; for another one they are null
        unless they were set, since the vocabulary's size does not say which token it is.
        """
        end_of_text = GPT2_VOCABULARY - 1 if self.vocab_size == GPT2_VOCABULARY else None
        return {
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            **super().to_dict(),
            **{theirs: getattr(self, ours) for ours, theirs in HF_NAMES.items()},
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "embd_pdrop": self.hidden_dropout_prob,
        }


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
        for setting in fields(self):
            if setting.type in (int, float, int | None, float | None):
                optional = setting.type in (int | None, float | None)
                self._check(setting.name, setting.type in (int, int | None), optional)

    def _check(self, name: str, whole: bool, optional: bool) -> None:
        """Raise ValueError unless the setting is a number in its range."""
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
    model: dict = field(default_factory=dict)  # the arguments of GPT2Config


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
    """A TrainingSettings for NLI: the training data and the recipe's options."""

    languages: tuple[str, ...] = ("en",)
    subset: float = 1.0  # the first rows of every language: a share, or a count if above 1
    per_label: int | None = None  # rows of each label, sampled with the seed, out of the subset
    examples: int | None = None  # rows per epoch, over all languages; None: every row once
    max_length: int = 1024  # tokens
    token_budget: int | None = None  # batches of similar lengths instead of batch_size rows
    accumulate: int = 1  # batches per optimizer step
    schedule: str = "constant"  # of the learning rate; or "linear" or "cosine", down to 0
    warmup: float = 0.0  # share of the steps
    max_grad_norm: float | None = None
    precision: str = "float32"  # or "bf16", or "auto": bf16 where the hardware has it

    def __post_init__(self):
        super().__post_init__()
        if not self.languages or isinstance(self.languages, str):
            raise ValueError(f'languages must be a tuple such as ("en",), got {self.languages!r}')
        object.__setattr__(self, "languages", tuple(self.languages))
        _check_choice(self, "schedule", "constant", "linear", "cosine")
        _check_choice(self, "precision", "float32", "bf16", "auto")
        if self.warmup >= 1:
            raise ValueError(f"warmup is a share of the steps in [0, 1), got {self.warmup}")
        if self.token_budget is not None and self.examples is not None:
            raise ValueError("token_budget reads every row once; leave out examples")


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
