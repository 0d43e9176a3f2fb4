"""The checks that a solution has to pass."""
