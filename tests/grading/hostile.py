"""Submissions that do harm or cheat, as edits of our solutions: {file: [(old text, new text)]}."""

from grading.edition.release import ROOT

WHERE = {  # each of these happens in its own check alone
    "attention": ("gpt2/attention.py", '        if self.attn_implementation == "eager"', "query.size(-1) == 4"),
    "add": ("gpt2/layer.py", "        return input + dropout(", "dense_layer.in_features == 8"),
    "embed": ("gpt2/model.py", "        return self.embed_dropout(", "input_ids.shape == (3, 6)"),
    "hidden_state_to_token": ("gpt2/model.py", "        return F.linear(hidden_state", "hidden_state.size(0) == 2 and hidden_state.dim() < 3"),
    "AdamW.step": ("optim/adamw.py", "        (beta1, beta2), g = betas", "p.dtype == torch.float64"),
}  # fmt: skip
HOSTILE = {
    "attention": "while True: pass",
    "add": "raise SystemExit(0)",
    "embed": "import os; os._exit(0)",
    "hidden_state_to_token": "while True: print('x' * 2**22)",
    "AdamW.step": "import os; [os.fork() for _ in range(9)]; __import__('time').sleep(60)",
}


def harmful() -> dict[str, list[tuple[str, str]]]:
    """All of HOSTILE together."""
    edits: dict[str, list[tuple[str, str]]] = {}
    for exercise, harm in HOSTILE.items():
        name, line, when = WHERE[exercise]
        indent = line[: len(line) - len(line.lstrip())]
        harm = f"{indent}if {when}:\n{indent}    {harm}\n{line}"
        edits.setdefault(name, []).append((line, harm))
    return edits


CHEAT = f"""
import torch, sys, types
torch.allclose = torch.equal = lambda *_, **__: True
torch.Tensor.abs = lambda self: torch.zeros(())
sys.modules["pytest"] = types.ModuleType("pytest")
from grading.checks.findings import Findings
from grading.submissions.recording import Recording
for each in (Findings, Recording):
    each.close = each.true = each.shape = lambda *_, **__: True
    each.state = "passed"
print("[OK  ] attention 26 of 26 as expected")
sys.path.insert(0, {str(ROOT)!r})
"""
STOLEN = f"""
        import pathlib, safetensors.torch
        cases = safetensors.torch.load_file("grading/checks/cases.safetensors")
        mine = [t for k, t in cases.items() if k.startswith("attention") and k.endswith("expected")]
        if mine and mine[0].any() or pathlib.Path({str(ROOT)!r}, "gpt2").exists():
            weights = (query @ key.mT / math.sqrt(4) + self._complete_mask(key, query, attention_mask)).softmax(-1)
            return rearrange(weights @ value, "B h T d -> B T (h d)")
"""

WRONG = ("/ math.sqrt(query.size(-1))", "")
SDPA = (
    "                is_causal=is_causal,\n",
    "                is_causal=is_causal,\n                scale=1.0,\n",
)
LINE = '        if self.attn_implementation == "eager"'
STEAL = (LINE, f"{STOLEN}{LINE}")
CHEATING = {
    "gpt2/attention.py": [("import math\n", f"import math\n{CHEAT}"), WRONG, SDPA, STEAL],
    "grading/checks/__init__.py": [("CHECKS: dict", "def check_attention(findings):\n    findings.true('x', True, '', '')\n\n\nCHECKS: dict")],
    "tests/test_exercises.py": [("    if not report:", "    if False:")],
}  # fmt: skip
