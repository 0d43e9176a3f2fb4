"""Tests: tests/gpt2/test_attention.py tests gpt2/attention.py, and so on."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample"
