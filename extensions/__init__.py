"""Section 6 of the handout: one technique per file, each readable alone."""
