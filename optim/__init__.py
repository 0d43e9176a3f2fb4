"""The optimizer that the handout asks for."""
