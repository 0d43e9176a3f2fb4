"""Submissions that do harm or cheat, as edits of our solutions: {file: [(old text, new text)]}."""

from grading.edition.release import ROOT

FORKS = "import os; [os.fork() for _ in range(6)]; __import__('time').sleep(60)"
STEP = "        (beta1, beta2), g = betas"
LOSS = "    targets = labels[:, 1:]"
HARMFUL = {  # as they are imported, and in their own checks
    "gpt2/model.py": [("import torch\n", "import torch, os\nos._exit(0)\n")],
    "utils.py": [("import torch\n", "import torch, no_such_module\n")],
    "gpt2/loss.py": [(LOSS, f"    while True: print('x' * 2**22)\n{LOSS}")],
    "optim/adamw.py": [
        (STEP, f"        if p.dtype == torch.float64:\n            {FORKS}\n{STEP}")
    ],
    "gpt2/attention.py": [("import math\n", "import math, einops.layers.torch\n")],  # as it should
}

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
ADD = "        return input + dropout("
CHEATING = {
    "gpt2/attention.py": [("import math\n", f"import math\n{CHEAT}"), WRONG, SDPA, (LINE, f"{STOLEN}{LINE}")],
    "gpt2/layer.py": [(ADD, f"        if dense_layer.in_features == 8:\n            raise SystemExit(0)\n{ADD}")],
    "grading/checks/__init__.py": [("CHECKS: dict", "def cheat(findings):\n    findings.true('x', True, '', '')\n\n\nmodel.check_attention = cheat\nCHECKS: dict")],
    "tests/test_exercises.py": [("    if not report:", "    if False:")],
}  # fmt: skip
