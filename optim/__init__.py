"""The optimizer of the handout: `from optim import AdamW`."""

from optim.adamw import AdamW

__all__ = ["AdamW"]
