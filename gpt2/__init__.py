"""GPT-2 from its formulas: the model, its training, generation and NLI evaluation.

from gpt2 import GPT2Model, AdamW, XNLIDataset, generate_gpt2
"""

# ruff: noqa: E402, F401  the filters come before what they filter; the names are for importers
import logging
import warnings

# tqdm says this once where widgets are not installed; the bars here are text bars anyway.
warnings.filterwarnings("ignore", message="IProgress not found")
# Where torchao is installed, transformers imports it, and it warns of kernels that nothing uses.
logging.getLogger("torchao").setLevel(logging.ERROR)
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)

from config import GPT2Config
from gpt2.attention import CausalSelfAttention, causal_mask
from gpt2.cache import KeyValueCache
from gpt2.checkpoints import Checkpoints, Progress
from gpt2.evaluate import compute_accuracy, evaluate_gpt2_xnli, predict
from gpt2.fertility import compute_fertility
from gpt2.generate import generate, generate_gpt2
from gpt2.layer import GPT2Layer
from gpt2.loss import count_labels, mean_loss, next_token_loss
from gpt2.model import GPT2Model, GPTPreTrainedModel
from gpt2.text import TextDataset
from gpt2.tokenizer import load_tokenizer
from gpt2.train import train
from gpt2.xnli import LABEL2ID, LANGUAGES, XNLIDataset, read_xnli_tsv
from optim import AdamW
