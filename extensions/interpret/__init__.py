"""Look inside a model, and relate it to the answers: `python -m extensions.interpret`."""
