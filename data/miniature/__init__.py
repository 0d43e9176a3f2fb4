"""A small world in fifteen languages: texts, NLI pairs, and a GPT-2 that has read the texts."""

from data.miniature.files import model_folder, nli_folder, phenomena

__all__ = ["model_folder", "nli_folder", "phenomena"]
