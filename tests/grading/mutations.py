"""Wrong implementations of every exercise, as small edits of ours.

By exercise and file. A mutation is what is wrong, a part of the check's hint if it has one, then
an old text that stands once in the file and the new one, and perhaps more of these pairs.
"""

ATTENTION, LAYER, MODEL = "gpt2/attention.py", "gpt2/layer.py", "gpt2/model.py"
ADAMW, LOSS, TRAIN = "optim/adamw.py", "gpt2/loss.py", "gpt2/train.py"
GENERATE, CACHE = "gpt2/generate.py", "gpt2/cache.py"
FINETUNING, ACCOUNTING = "exercises/finetuning.py", "exercises/accounting.py"
XNLI, PROMPTS, TASKS = "gpt2/xnli.py", "gpt2/prompts.py", "gpt2/tasks.py"

ADD = "return input + dropout(dense_layer(output))"
EMBED = "self.word_embedding(input_ids) + self.pos_embedding(position_ids)"
PROJECT = "return F.linear(hidden_state, self.word_embedding.weight)"
SOFTMAX = "return (scores + self._complete_mask(key, query, attention_mask)).softmax(dim=-1)"
DROPPED = "self.dropout(self.attention_weights(key, query, attention_mask))"
MERGE = 'rearrange(context, "B h T d -> B T (h d)")'
UPDATE = "p.sub_(lr * m_hat / (v_hat.sqrt() + eps))"
DECAY = "p.sub_(lr * weight_decay * p)"

MUTATIONS = {
    ("attention", ATTENTION): [
        ("no causal mask", "0 and the smallest number|sees later ones|does not see itself", ".triu(S - T + 1)", ".triu(S)"),
        ("does not see itself", "does not see itself", ".triu(S - T + 1)", ".triu(S - T)"),
        ("sees the next one", "sees the one after it", ".triu(S - T + 1)", ".triu(S - T + 2)"),
        ("the queries are the first positions", "last of the S positions", ".triu(S - T + 1)", ".triu(1)"),
        ("sees the future instead of the past", "", ".triu(S - T + 1)", ".tril(S - T)"),
        ("pads are seen", "pads are seen",
         "return mask if padding_mask is None else torch.minimum(mask, padding_mask)", "return mask if padding_mask is None else mask.expand(len(padding_mask), 1, T, S)"),
        ("pads instead of causality", "sees later ones", "torch.minimum(mask, padding_mask)", "padding_mask.expand(-1, 1, T, S)"),
        ("hidden is infinite", "",
         "smallest = torch.finfo(dtype).min  # finite", "smallest = -torch.inf  # finite",
         "torch.minimum(mask, padding_mask)", "torch.where(padding_mask < 0, -torch.inf, mask)"),
        ("scaling forgotten", "square root of a head's width", "/ math.sqrt(query.size(-1))", ""),
        ("scaled by the hidden size", "not the whole state's", "/ math.sqrt(query.size(-1))", "/ math.sqrt(query.size(-1) * query.size(1))"),
        ("no mask", "add both masks", SOFTMAX, "return scores.softmax(dim=-1)"),
        ("mask after the softmax", "before the softmax", SOFTMAX, "return scores.softmax(dim=-1) * (self._complete_mask(key, query, attention_mask) == 0)"),
        ("mask added after the softmax", "", SOFTMAX, "return scores.softmax(dim=-1) + self._complete_mask(key, query, attention_mask)"),
        ("softmax over the queries", "over the keys, not over the queries", SOFTMAX, SOFTMAX.replace("dim=-1", "dim=-2")),
        ("dropout on the scores", "",
         SOFTMAX, SOFTMAX.replace("(scores +", "(self.dropout(scores) +"),
         DROPPED, "self.attention_weights(key, query, attention_mask)"),
        ("no dropout", "apply self.dropout", DROPPED, "self.attention_weights(key, query, attention_mask)"),
        ("heads merged in the wrong order", "the heads come out mixed", MERGE, "context.reshape(query.size(0), query.size(2), -1)"),
        ("width before heads", "", MERGE, MERGE.replace("(h d)", "(d h)")),
        ("query and key exchanged", "", "query @ key.transpose(-1, -2)", "key @ query.transpose(-1, -2)"),
        ("the kernel without causality", "sees later ones", "is_causal=is_causal", "is_causal=False"),
        ("the kernel drops in evaluation", "dropout is for training", "self.dropout.p if self.training else 0.0", "self.dropout.p"),
        ("the kernel's own causality with a cache", "last of the S positions", "if attention_mask is not None or 1 < T < S:", "if attention_mask is not None:"),
        ("the kernel's own causality for one query", "last of the S positions", "elif T > 1:", "else:"),
        ("the mask is a square of the queries", "",
         "torch.full((T, S), smallest, dtype=dtype, device=device).triu(S - T + 1)", "torch.full((T, T), smallest, dtype=dtype, device=device).triu(1)"),
        ("heads not merged", "merge the heads", MERGE, "context"),
        ("dropout on the context", "apply self.dropout", "weights @ value ", "self.dropout(weights @ value) ",
         DROPPED, "self.attention_weights(key, query, attention_mask)"),
        ("dropout on the values", "apply self.dropout", "weights @ value ", "weights @ self.dropout(value) ",
         DROPPED, "self.attention_weights(key, query, attention_mask)"),
    ],
    ("add", LAYER): [
        ("no residual", "the input is missing", ADD, "return dropout(dense_layer(output))"),
        ("dropout over all", "dropout", ADD, "return dropout(input + dense_layer(output))"),
        ("dropout too early", "dropout", ADD, "return input + dense_layer(dropout(output))"),
        ("no dropout", "dropout applies to what is added", ADD, "return input + dense_layer(output)"),
        ("bias forgotten", "the bias of the dense layer", ADD, "return input + dropout(output @ dense_layer.weight.T)"),
        ("in place", "in place", ADD, "return input.add_(dropout(dense_layer(output)))"),
    ],
    ("layer forward", LAYER): [
        ("the exact GELU", "tanh form", '"gelu_new": lambda: nn.GELU(approximate="tanh")', '"gelu_new": lambda: nn.GELU()'),
        ("norms exchanged", "exchanged",
         "self.attention_layer_norm(hidden_states)", "self.out_layer_norm(hidden_states)",
         "self.interm_dense(self.out_layer_norm(", "self.interm_dense(self.attention_layer_norm("),
        ("no first norm", "first layer norm is missing", "self.attention_layer_norm(hidden_states)", "hidden_states"),
        ("no second norm", "second layer norm is missing", "self.interm_dense(self.out_layer_norm(hidden_states))", "self.interm_dense(hidden_states)"),
        ("out_dense applied twice", "self.add applies the dense layer itself",
         "return self.add(hidden_states, widened,", "return self.add(hidden_states, self.out_dense(widened),"),
        ("dropout once more over all", "its own dropout",
         "return self.add(hidden_states, widened, self.out_dense, self.out_dropout)", "return self.out_dropout(self.add(hidden_states, widened, self.out_dense, self.out_dropout))"),
        ("dropout once more before", "its own dropout", "self.add(hidden_states, widened,", "self.add(hidden_states, self.out_dropout(widened),"),
        ("attention_dense applied twice", "self.add applies attention_dense itself",
         "hidden_states, context, self.attention_dense", "hidden_states, self.attention_dense(context), self.attention_dense"),
        ("no activation", "the activation is missing",
         "self.interm_af(self.interm_dense(self.out_layer_norm(hidden_states)))", "self.interm_dense(self.out_layer_norm(hidden_states))"),
        ("the mask is not passed on", "the mask does not reach",
         "self.attention_layer_norm(hidden_states), attention_mask, cache", "self.attention_layer_norm(hidden_states), None, cache"),
        ("the first dropout twice", "its own dropout", "widened, self.out_dense, self.out_dropout", "widened, self.out_dense, self.attention_dropout"),
        ("the second dropout twice", "its own dropout",
         "hidden_states, context, self.attention_dense, self.attention_dropout", "hidden_states, context, self.attention_dense, self.out_dropout"),
        ("the second addition takes the block's input", "the result of the first",
         "hidden_states = self.add(\n            hidden_states, context", "first, hidden_states = hidden_states, self.add(\n            hidden_states, context",
         "return self.add(hidden_states, widened,", "return self.add(first, widened,"),
    ],
    ("embed", MODEL): [
        ("no positions", "the positions are missing", EMBED, "self.word_embedding(input_ids)"),
        ("positions from 1", "first position is 0", "position_ids = torch.arange(input_ids.size(1),", "position_ids = torch.arange(1, input_ids.size(1) + 1,"),
        ("every row has the first one's positions", "positions of its own", EMBED, EMBED.replace("position_ids)", "position_ids[:1])")),
        ("positions that are given count from 1", "as they are, from 0", EMBED, EMBED.replace("position_ids)", "position_ids + (len(position_ids) > 1))")),
        ("no dropout", "embed_dropout", "return self.embed_dropout(", "return ("),
        ("multiplied", "added, not multiplied", EMBED, EMBED.replace("+", "*")),
        ("scaled", "does not scale", EMBED, f"({EMBED}) * self.config.hidden_size**0.5"),
    ],
    ("hidden_state_to_token", MODEL): [
        ("probabilities", "not probabilities", PROJECT, PROJECT + ".softmax(-1)"),
        ("detached", "in the graph", PROJECT, PROJECT.replace(".weight)", ".weight.detach())")),
        ("chosen already", "not the most probable token", PROJECT, PROJECT + ".argmax(-1)"),
        ("normalised again", "normalized already", PROJECT, PROJECT.replace("(hidden_state,", "(self.final_layer_norm(hidden_state),")),
    ],
    ("sanity check", MODEL): [
        ("pads on the left are seen", "", "if attention_mask is not None and not _padded_on_the_right(attention_mask):", "if False:"),
        ("the last block is left out", "", "enumerate(self.gpt_layers)", "enumerate(self.gpt_layers[:-1])"),
        ("no final norm", "", "hidden_states = self.final_layer_norm(hidden_states)", "pass"),
        ("the last column for the last token", "whose mask is 1", '"last_token": hidden_states[rows, last_column]', '"last_token": hidden_states[:, -1]'),
    ],
    ("AdamW.step", ADAMW): [
        ("decay with the correction alone", "the weight decay is missing", DECAY, "p.sub_(lr * weight_decay * p * correct_bias)"),
        ("never corrects", "if, and only if, correct_bias", "        if correct_bias:", "        if False:"),
        ("always corrects", "if, and only if, correct_bias", "        if correct_bias:", "        if True:"),
        ("corrects twice", "corrected twice",
         'm_hat = m / (1 - beta1 ** state["step"])', 'm_hat = m / (1 - beta1 ** state["step"]) ** 2',
         'v_hat = v / (1 - beta2 ** state["step"])', 'v_hat = v / (1 - beta2 ** state["step"]) ** 2'),
        ("epsilon inside the root", "outside the root", UPDATE, UPDATE.replace("v_hat.sqrt() + eps", "(v_hat + eps).sqrt()")),
        ("corrects, and divides the step size too", "again in the step size",
         UPDATE, UPDATE.replace("(lr * m_hat", "((lr / (1 - beta1 ** state['step']) if correct_bias else lr) * m_hat")),
        ("corrects, and scales the step size too", "again in the step size",
         UPDATE, UPDATE.replace("(lr * m_hat",
       "((lr * (1 - beta2 ** state['step']) ** 0.5 / (1 - beta1 ** state['step']) if correct_bias else lr) * m_hat")),
        ("the second moment is not corrected", "v̂ is not corrected", 'v_hat = v / (1 - beta2 ** state["step"])', "pass"),
        ("coupled decay", "decoupled", "(beta1, beta2), g = betas, p.grad", "(beta1, beta2), g = betas, p.grad + weight_decay * p", DECAY, "pass"),
        ("decay without the learning rate", "scaled by the learning rate", DECAY, "p.sub_(weight_decay * p)"),
        ("no decay", "the weight decay is missing", DECAY, "pass"),
        ("gradient not squared", "squared gradient", "addcmul_(g, g, value=1 - beta2)", "add_(g.abs(), alpha=1 - beta2)"),
        ("no root", "the root is missing", UPDATE, UPDATE.replace("v_hat.sqrt()", "v_hat")),
        ("the gradient in full", "", "add_(g, alpha=1 - beta1)", "add_(g)"),
        ("uphill", "", UPDATE, UPDATE.replace("sub_", "add_")),
        ("betas exchanged", "", "(beta1, beta2), g = betas", "(beta2, beta1), g = betas"),
        ("steps are not counted", "", 'state["step"] += 1', 'state["step"] = 1'),
        ("moments are forgotten", "", 'm, v = state["exp_avg"], state["exp_avg_sq"]', 'm, v = state["exp_avg"].zero_(), state["exp_avg_sq"].zero_()'),
    ],
    ("next_token_loss", LOSS): [
        ("no gradient for the blocks", "keep the loss in the graph", "hidden_states[:, :-1][counted]", "hidden_states[:, :-1][counted].detach()"),
        ("not shifted", "and not its own", "targets = labels[:, 1:]", "targets = labels[:, :-1]"),
        ("every end of text is lost", "every end of text",
         "counted = targets != IGNORED", "counted = (targets != IGNORED) & (targets != model.config.pad_token_id)"),
        ("pads counted", "pads are counted", "input_ids.masked_fill(~(real & after_a_token), IGNORED)", "input_ids"),
        ("one pad counted", "the first pad after each text", "~(real & after_a_token)", "~after_a_token"),
        ("always summed", "`reduction` says", "getattr(losses, reduction)()", "losses.sum()"),
        ("never summed", "`reduction` says", "getattr(losses, reduction)()", "losses.mean()"),
        ("divided by the rows", "divide by the number of labels", "getattr(losses, reduction)()", "losses.sum() / len(input_ids)"),
        ("detached", "in the graph", "getattr(losses, reduction)()", "getattr(losses.detach(), reduction)()"),
    ],
    ("pretraining step", TRAIN): [
        ("gradients pile up", "of the step before", "                optimizer.step()\n                optimizer.zero_grad()", "                optimizer.step()"),
        ("no step", "nothing is learned", "                optimizer.step()\n                optimizer.zero_grad()", "                optimizer.zero_grad()"),
        ("half of the loss", "", "reduction=\"sum\") / num_labels", "reduction=\"sum\") / num_labels / 2"),
        ("the mean of each batch", "not a sum of means", "reduction=\"sum\") / num_labels", "reduction=\"mean\")"),
        ("the mean of the batches' means", "not every batch", "reduction=\"sum\") / num_labels", "reduction=\"mean\") / len(batches)"),
        ("the gradients of the last batch alone", "once a step",
         "for number, batch in enumerate(batches, 1):\n", "for number, batch in enumerate(batches, 1):\n                    optimizer.zero_grad()\n"),
        ("a step for each batch", "one update for all batches",
         "loss += part.item()", "loss += part.item()\n                    optimizer.step()\n                    optimizer.zero_grad()"),
        ("the gradient of the sum", "not of the sum", "accelerator.backward(part * accelerator.num_processes)", "accelerator.backward(part * num_labels)"),
        ("the last batch alone", "not of the last", "loss += part.item()", "loss = part.item()"),
        ("no backward pass", "", "accelerator.backward(part * accelerator.num_processes)", "pass"),
    ],
    ("generation", GENERATE): [
        ("the least probable", "", "logits.argmax(dim=-1, keepdim=True)", "logits.argmin(dim=-1, keepdim=True)"),
        ("one too many", "one token too many", "max_new_tokens=max_gen_length,", "max_new_tokens=max_gen_length + 1,"),
        ("the prompt is left out", "the prompt belongs to the text", "torch.cat([row[mask.bool()], new])", "new"),
        ("end-of-text is passed over", "nothing after end-of-text",
         "        if finished.all():\n            break\n", "",
         "token = token.masked_fill(finished, eos)", "pass"),
        ("the first row that ends stops all", "waits for the others", "finished.all()", "finished.any()"),
        ("rows go on after their end", "waits for the others", "token = token.masked_fill(finished, eos)", "pass"),
        ("greedy for every sampling row", "do_sample", "if choose is not None:", "if False:"),
        ("the chosen token is not appended", "must read the newest token",
         "hidden = model(ids[:, read:], mask, *more)", "hidden = model(ids[:, :prompt], mask[:, :prompt])"),
        ("the mask is where no padding token is", "can be a token of the text",
         "hidden = model(ids[:, read:], mask, *more)", "hidden = model(ids[:, read:], (ids != model.config.pad_token_id).long(), *more)"),
        ("dropout stays on", "", "@in_evaluation_mode\ndef generate(", "def generate("),
        ("the first position decides", "", '["last_hidden_state"][:, -1]', '["last_hidden_state"][:, 0]'),
        ("the newest token is not read", "",
         "mask = F.pad(mask, (0, ids.size(1) - mask.size(1)), value=1)", "mask = F.pad(mask, (0, ids.size(1) - mask.size(1)), value=0)"),
    ],
    ("generation", CACHE): [
        ("the cache overwrites its last position", "",
         "start, end = self.cache.length, self.cache.length + new.size(2)", "start, end = max(self.cache.length - 1, 0), max(self.cache.length - 1, 0) + new.size(2)"),
    ],
    ("labels", TASKS): [
        ("all tokens are labels", "only the digit's token", "labels = torch.full_like(input_ids, IGNORED)", "labels = input_ids.clone()"),
        ("the answer is left out", "", "input_ids = torch.cat([prompt, answer])", "input_ids = prompt"),
        ("the label stands one place early", "only the digit's token", "labels[-len(answer) :] = answer", "labels[-len(answer) - 1 : -1] = answer"),
        ("what is no label counts as token 0", "", "torch.full_like(input_ids, IGNORED)", "torch.zeros_like(input_ids)"),
        ("a long row's label is elsewhere", "never the label", "labels[-len(answer) :] = answer", "labels[min(len(labels), 40) - len(answer) : 40] = answer"),
        ("pads are labels", "padding must not count", '"labels": IGNORED}', '"labels": 0}'),
    ],
    ("labels", XNLI): [
        ("another prompt", "", '"Premise: {premise}', '"Premise:{premise}'),
        ("labels exchanged", "", '"contradictory": "1", "neutral": "2"}', '"contradictory": "2", "neutral": "1"}'),
    ],
    ("labels", PROMPTS): [
        ("the label is cut off", "never the label", "_shorten(ids, template, rows[i], tokenizer, room)", "ids[:room]"),
        ("a space before the digit", "", "(prompt + text for text in texts)", '(prompt + " " + text for text in texts)'),
    ],
    ("fine-tuning step", FINETUNING): [
        ("not shifted", "position i predicts token i \\+ 1", "[:, :-1]", "", "[:, 1:]", ""),
        ("all tokens are labels", "only the labels count", 'batch["labels"]', 'batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)'),
        ("answers that equal the pad are lost", "not the padding token", 'batch["labels"]', 'batch["labels"].masked_fill(batch["labels"] == 96, -100)'),
        ("gradients pile up", "clear the gradients", "    optimizer.zero_grad()\n", ""),
        ("uphill", "the loss grows", "loss.backward()", "(-loss).backward()"),
        ("no step", "nothing is learned", "    optimizer.step()\n", ""),
        ("the third step is missing", "a bias after them", "    optimizer.step()\n",
         "    optimizer.calls = getattr(optimizer, 'calls', 0) + 1\n    optimizer.calls == 3 or optimizer.step()\n"),
    ],
    ("parameter count", ACCOUNTING): [
        ("an untied projection", "weights of its own", "return V * d", "return 2 * V * d"),
        ("no final norm", "the final layer norm", "2 * norm) + norm", "2 * norm)"),
        ("no biases", "has a bias", "4 * (d * d + d)", "4 * d * d", "(d * f + f) + (f * d + d)", "2 * d * f"),
    ],
    ("training costs", ACCOUNTING): [
        ("the forward pass alone", "takes twice as many", "3 * forward", "forward"),
        ("one moment", "AdamW has two moments", "4 * 4 * parameters", "3 * 4 * parameters"),
        ("no moments", "", "4 * 4 * parameters", "4 * 2 * parameters"),
    ],
}  # fmt: skip


def edited(source: str, *edits: str) -> str:
    """The source after all edits; AssertionError where an old text does not stand there once."""
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert source.count(old) == 1, f"{old!r} stands there {source.count(old)} times"
        source = source.replace(old, new)
    return source
