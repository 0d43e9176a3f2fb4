"""GPT-2, and the study of it that the handout asks for."""
