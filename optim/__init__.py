"""The optimizer of the handout, `from optim import AdamW`, and Muon, for comparison."""

from optim.adamw import AdamW
from optim.muon import Muon

__all__ = ["AdamW", "Muon"]
