"""GPT-2, and the study of it that the handout asks for."""

import warnings

# tqdm says this once where widgets are not installed; our bars are text bars anyway.
warnings.filterwarnings("ignore", message="IProgress not found")
