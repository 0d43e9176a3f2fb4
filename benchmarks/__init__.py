"""Us and our peers, side by side in one run."""
