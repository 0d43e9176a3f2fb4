"""One step of fine-tuning, written out as the handout lists it in section 4.3 (TODO-9).

The package trains by one loss and one loop, `gpt2.loss` and `gpt2.train` (TODO-7), and fine-tunes
by the same two. So this step is not used in them: it is for learning, and shows what they must
give for batches with labels.
"""

import torch.nn.functional as F

from gpt2.loss import IGNORED


def finetuning_step(model, batch, optimizer) -> float:
    """Update the model's weights once, by the loss of a batch; return that loss.

    `batch` has `input_ids`, `attention_mask` and `labels`, (B, T) each; a label is the token's id
    at the answer, and -100 everywhere else.
    """
    # BEGIN SOLUTION fine-tuning step
    hidden = model(batch["input_ids"], batch["attention_mask"])["last_hidden_state"]
    logits = model.hidden_state_to_token(hidden)[:, :-1]  # (B, T - 1, vocab)
    targets = batch["labels"][:, 1:]  # position i predicts token i + 1
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    # END SOLUTION
