"""Wrong and right implementations of every exercise, as small edits of ours.

A mutation is (exercise, file, what is wrong, edits); an edit is (old text, new text), where the
old one stands once in the file. A style is another right way to write the same.
"""

import ast
import textwrap

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

MUTATIONS = [
    ("attention", ATTENTION, "no causal mask", [(".triu(S - T + 1)", ".triu(S)")]),
    ("attention", ATTENTION, "does not see itself", [(".triu(S - T + 1)", ".triu(S - T)")]),
    ("attention", ATTENTION, "sees the next one", [(".triu(S - T + 1)", ".triu(S - T + 2)")]),
    ("attention", ATTENTION, "the queries are the first positions", [(".triu(S - T + 1)", ".triu(1)")]),
    ("attention", ATTENTION, "sees the future instead of the past", [(".triu(S - T + 1)", ".tril(S - T)")]),
    ("attention", ATTENTION, "pads are seen",
     [("return mask if padding_mask is None else torch.minimum(mask, padding_mask)",
       "return mask if padding_mask is None else mask.expand(len(padding_mask), 1, T, S)")]),
    ("attention", ATTENTION, "pads instead of causality",
     [("torch.minimum(mask, padding_mask)", "padding_mask.expand(-1, 1, T, S)")]),
    ("attention", ATTENTION, "hidden is infinite",
     [("smallest = torch.finfo(dtype).min  # finite", "smallest = -torch.inf  # finite"),
      ("torch.minimum(mask, padding_mask)", "torch.where(padding_mask < 0, -torch.inf, mask)")]),
    ("attention", ATTENTION, "scaling forgotten", [("/ math.sqrt(query.size(-1))", "")]),
    ("attention", ATTENTION, "scaled by the hidden size",
     [("/ math.sqrt(query.size(-1))", "/ math.sqrt(query.size(-1) * query.size(1))")]),
    ("attention", ATTENTION, "no mask", [(SOFTMAX, "return scores.softmax(dim=-1)")]),
    ("attention", ATTENTION, "mask after the softmax",
     [(SOFTMAX, "return scores.softmax(dim=-1) * (self._complete_mask(key, query, attention_mask) == 0)")]),
    ("attention", ATTENTION, "mask added after the softmax",
     [(SOFTMAX, "return scores.softmax(dim=-1) + self._complete_mask(key, query, attention_mask)")]),
    ("attention", ATTENTION, "softmax over the queries", [(SOFTMAX, SOFTMAX.replace("dim=-1", "dim=-2"))]),
    ("attention", ATTENTION, "dropout on the scores",
     [(SOFTMAX, SOFTMAX.replace("(scores +", "(self.dropout(scores) +")),
      (DROPPED, "self.attention_weights(key, query, attention_mask)")]),
    ("attention", ATTENTION, "no dropout", [(DROPPED, "self.attention_weights(key, query, attention_mask)")]),
    ("attention", ATTENTION, "heads merged in the wrong order",
     [(MERGE, "context.reshape(query.size(0), query.size(2), -1)")]),
    ("attention", ATTENTION, "width before heads", [(MERGE, MERGE.replace("(h d)", "(d h)"))]),
    ("attention", ATTENTION, "query and key exchanged",
     [("query @ key.transpose(-1, -2)", "key @ query.transpose(-1, -2)")]),
    ("attention", ATTENTION, "the kernel without causality",
     [("is_causal=is_causal", "is_causal=False")]),
    ("attention", ATTENTION, "the kernel drops in evaluation",
     [("self.dropout.p if self.training else 0.0", "self.dropout.p")]),
    ("attention", ATTENTION, "heads not merged", [(MERGE, "context")]),

    ("add", LAYER, "no residual", [(ADD, "return dropout(dense_layer(output))")]),
    ("add", LAYER, "dropout over all", [(ADD, "return dropout(input + dense_layer(output))")]),
    ("add", LAYER, "dropout too early", [(ADD, "return input + dense_layer(dropout(output))")]),
    ("add", LAYER, "no dropout", [(ADD, "return input + dense_layer(output)")]),
    ("add", LAYER, "bias forgotten", [(ADD, "return input + dropout(output @ dense_layer.weight.T)")]),
    ("add", LAYER, "in place", [(ADD, "return input.add_(dropout(dense_layer(output)))")]),

    ("layer forward", LAYER, "the exact GELU", [('"gelu_new": lambda: nn.GELU(approximate="tanh")', '"gelu_new": lambda: nn.GELU()')]),
    ("layer forward", LAYER, "norms exchanged",
     [("self.attention_layer_norm(hidden_states)", "self.out_layer_norm(hidden_states)"),
      ("self.interm_dense(self.out_layer_norm(", "self.interm_dense(self.attention_layer_norm(")]),
    ("layer forward", LAYER, "no first norm",
     [("self.attention_layer_norm(hidden_states)", "hidden_states")]),
    ("layer forward", LAYER, "no second norm",
     [("self.interm_dense(self.out_layer_norm(hidden_states))", "self.interm_dense(hidden_states)")]),
    ("layer forward", LAYER, "out_dense applied twice",
     [("return self.add(hidden_states, widened,", "return self.add(hidden_states, self.out_dense(widened),")]),
    ("layer forward", LAYER, "attention_dense applied twice",
     [("hidden_states, context, self.attention_dense",
       "hidden_states, self.attention_dense(context), self.attention_dense")]),
    ("layer forward", LAYER, "no activation",
     [("self.interm_af(self.interm_dense(self.out_layer_norm(hidden_states)))",
       "self.interm_dense(self.out_layer_norm(hidden_states))")]),
    ("layer forward", LAYER, "the mask is not passed on",
     [("self.attention_layer_norm(hidden_states), attention_mask, cache",
       "self.attention_layer_norm(hidden_states), None, cache")]),
    ("layer forward", LAYER, "the first dropout twice",
     [("widened, self.out_dense, self.out_dropout", "widened, self.out_dense, self.attention_dropout")]),
    ("layer forward", LAYER, "the second dropout twice",
     [("hidden_states, context, self.attention_dense, self.attention_dropout",
       "hidden_states, context, self.attention_dense, self.out_dropout")]),
    ("layer forward", LAYER, "the second addition takes the block's input",
     [("hidden_states = self.add(\n            hidden_states, context",
       "first, hidden_states = hidden_states, self.add(\n            hidden_states, context"),
      ("return self.add(hidden_states, widened,", "return self.add(first, widened,")]),

    ("embed", MODEL, "no positions", [(EMBED, "self.word_embedding(input_ids)")]),
    ("embed", MODEL, "positions from 1",
     [("position_ids = torch.arange(input_ids.size(1),", "position_ids = torch.arange(1, input_ids.size(1) + 1,")]),
    ("embed", MODEL, "no dropout", [("return self.embed_dropout(", "return (")]),
    ("embed", MODEL, "multiplied", [(EMBED, EMBED.replace("+", "*"))]),
    ("embed", MODEL, "scaled", [(EMBED, f"({EMBED}) * self.config.hidden_size**0.5")]),

    ("hidden_state_to_token", MODEL, "probabilities", [(PROJECT, PROJECT + ".softmax(-1)")]),
    ("hidden_state_to_token", MODEL, "detached", [(PROJECT, PROJECT.replace(".weight)", ".weight.detach())"))]),
    ("hidden_state_to_token", MODEL, "chosen already", [(PROJECT, PROJECT + ".argmax(-1)")]),
    ("hidden_state_to_token", MODEL, "normalised again",
     [(PROJECT, PROJECT.replace("(hidden_state,", "(self.final_layer_norm(hidden_state),"))]),

    ("sanity check", MODEL, "positions ignore left padding",
     [("get_position_ids(attention_mask)[:, S - T :]", "torch.arange(S - T, S)[None]")]),
    ("sanity check", MODEL, "no final norm",
     [("hidden_states = self.final_layer_norm(hidden_states)", "pass")]),
    ("sanity check", MODEL, "the last column for the last token",
     [('"last_token": hidden_states[rows, last_column]', '"last_token": hidden_states[:, -1]')]),

    ("AdamW.step", ADAMW, "never corrects", [("        if correct_bias:", "        if False:")]),
    ("AdamW.step", ADAMW, "always corrects", [("        if correct_bias:", "        if True:")]),
    ("AdamW.step", ADAMW, "corrects twice",
     [('m_hat = m / (1 - beta1 ** state["step"])', 'm_hat = m / (1 - beta1 ** state["step"]) ** 2'),
      ('v_hat = v / (1 - beta2 ** state["step"])', 'v_hat = v / (1 - beta2 ** state["step"]) ** 2')]),
    ("AdamW.step", ADAMW, "epsilon inside the root", [(UPDATE, UPDATE.replace("v_hat.sqrt() + eps", "(v_hat + eps).sqrt()"))]),
    ("AdamW.step", ADAMW, "decay before the update", [(f"{UPDATE}\n        {DECAY}", f"{DECAY}\n        {UPDATE}")]),
    ("AdamW.step", ADAMW, "coupled decay",
     [("(beta1, beta2), g = betas, p.grad", "(beta1, beta2), g = betas, p.grad + weight_decay * p"), (DECAY, "pass")]),
    ("AdamW.step", ADAMW, "decay without the learning rate", [(DECAY, "p.sub_(weight_decay * p)")]),
    ("AdamW.step", ADAMW, "no decay", [(DECAY, "pass")]),
    ("AdamW.step", ADAMW, "gradient not squared",
     [("addcmul_(g, g, value=1 - beta2)", "add_(g.abs(), alpha=1 - beta2)")]),
    ("AdamW.step", ADAMW, "no root", [(UPDATE, UPDATE.replace("v_hat.sqrt()", "v_hat"))]),
    ("AdamW.step", ADAMW, "the gradient in full", [("add_(g, alpha=1 - beta1)", "add_(g)")]),
    ("AdamW.step", ADAMW, "uphill", [(UPDATE, UPDATE.replace("sub_", "add_"))]),
    ("AdamW.step", ADAMW, "betas exchanged", [("(beta1, beta2), g = betas", "(beta2, beta1), g = betas")]),
    ("AdamW.step", ADAMW, "steps are not counted", [('state["step"] += 1', 'state["step"] = 1')]),
    ("AdamW.step", ADAMW, "moments are forgotten",
     [('m, v = state["exp_avg"], state["exp_avg_sq"]',
       'm, v = state["exp_avg"].zero_(), state["exp_avg_sq"].zero_()')]),

    ("next_token_loss", LOSS, "not shifted", [("targets = labels[:, 1:]", "targets = labels[:, :-1]")]),
    ("next_token_loss", LOSS, "pads counted",
     [("input_ids.masked_fill(~(real & after_a_token), IGNORED)", "input_ids")]),
    ("next_token_loss", LOSS, "one pad counted", [("~(real & after_a_token)", "~after_a_token")]),
    ("next_token_loss", LOSS, "always summed", [("getattr(losses, reduction)()", "losses.sum()")]),
    ("next_token_loss", LOSS, "never summed", [("getattr(losses, reduction)()", "losses.mean()")]),
    ("next_token_loss", LOSS, "divided by the rows",
     [("getattr(losses, reduction)()", "losses.sum() / len(input_ids)")]),
    ("next_token_loss", LOSS, "detached", [("getattr(losses, reduction)()", "getattr(losses.detach(), reduction)()")]),

    ("pretraining step", TRAIN, "gradients pile up",
     [("                optimizer.step()\n                optimizer.zero_grad()", "                optimizer.step()")]),
    ("pretraining step", TRAIN, "no step",
     [("                optimizer.step()\n                optimizer.zero_grad()", "                optimizer.zero_grad()")]),
    ("pretraining step", TRAIN, "half of the loss", [("reduction=\"sum\") / num_labels", "reduction=\"sum\") / num_labels / 2")]),
    ("pretraining step", TRAIN, "the mean of each batch", [("reduction=\"sum\") / num_labels", "reduction=\"mean\")")]),
    ("pretraining step", TRAIN, "the last batch alone", [("loss += part.item()", "loss = part.item()")]),
    ("pretraining step", TRAIN, "no backward pass",
     [("accelerator.backward(part * accelerator.num_processes)", "pass")]),

    ("generation", GENERATE, "the least probable", [("logits.argmax(dim=-1, keepdim=True)", "logits.argmin(dim=-1, keepdim=True)")]),
    ("generation", GENERATE, "one too many",
     [("max_new_tokens=max_gen_length,", "max_new_tokens=max_gen_length + 1,")]),
    ("generation", GENERATE, "the prompt is left out",
     [("torch.cat([row[mask.bool()], new])", "new")]),
    ("generation", GENERATE, "end-of-text is passed over",
     [("        if finished.all():\n            break\n", ""),
      ("token = token.masked_fill(finished, eos)", "pass")]),
    ("generation", GENERATE, "dropout stays on", [("@in_evaluation_mode\ndef generate(", "def generate(")]),
    ("generation", GENERATE, "the first position decides", [('["last_hidden_state"][:, -1]', '["last_hidden_state"][:, 0]')]),
    ("generation", GENERATE, "the newest token is not read",
     [("mask = F.pad(mask, (0, ids.size(1) - mask.size(1)), value=1)",
       "mask = F.pad(mask, (0, ids.size(1) - mask.size(1)), value=0)")]),
    ("generation", CACHE, "the cache overwrites its last position",
     [("start, end = self.cache.length, self.cache.length + new.size(2)",
       "start, end = max(self.cache.length - 1, 0), max(self.cache.length - 1, 0) + new.size(2)")]),

    ("fine-tuning step", TASKS, "all tokens are labels",
     [("labels = torch.full_like(input_ids, IGNORED)", "labels = input_ids.clone()")]),
    ("fine-tuning step", XNLI, "another prompt", [('"Premise: {premise}', '"Premise:{premise}')]),
    ("fine-tuning step", XNLI, "labels exchanged",
     [('"contradictory": "1", "neutral": "2"}', '"contradictory": "2", "neutral": "1"}')]),
    ("fine-tuning step", PROMPTS, "the label is cut off",
     [("_shorten(ids, template, rows[i], tokenizer, room)", "ids[:room]")]),
    ("fine-tuning step", TASKS, "pads are labels", [('"labels": IGNORED}', '"labels": 0}')]),
    ("fine-tuning step", PROMPTS, "a space before the digit",
     [("(prompt + text for text in texts)", '(prompt + " " + text for text in texts)')]),
    ("fine-tuning step", FINETUNING, "not shifted", [("[:, :-1]", ""), ("[:, 1:]", "")]),
    ("fine-tuning step", FINETUNING, "gradients pile up", [("    optimizer.zero_grad()\n", "")]),

    ("parameter count", ACCOUNTING, "an untied projection", [("return V * d", "return 2 * V * d")]),
    ("training costs", ACCOUNTING, "the forward pass alone", [("3 * forward", "forward")]),
    ("training costs", ACCOUNTING, "no moments", [("4 * 4 * parameters", "4 * 2 * parameters")]),
]  # fmt: skip

STYLES = {
    "loops": {
        ATTENTION: {
            "CausalSelfAttention.attention": """
                B, h, T, d = query.shape
                rows = []
                for t in range(T):
                    scores = []
                    for s in range(key.size(2)):
                        score = (query[:, :, t] * key[:, :, s]).sum(-1) / d**0.5
                        if attention_mask is not None:
                            score = score + attention_mask.expand(-1, -1, T, -1)[:, 0, t, None, s]
                        if s > t + key.size(2) - T:
                            score = torch.full_like(score, -torch.inf)
                        scores.append(score)
                    weights = self.dropout(torch.stack(scores, dim=-1).softmax(dim=-1))
                    seen = (weights[..., None] * value).sum(dim=2)
                    rows.append(torch.cat([seen[:, i] for i in range(h)], dim=-1))
                return torch.stack(rows, dim=1)
            """,
            "causal_mask": """
                mask = torch.zeros(T, S, dtype=dtype, device=device)
                for t in range(T):
                    for s in range(S):
                        if s > S - T + t:
                            mask[t, s] = torch.finfo(dtype).min
                return mask if padding_mask is None else torch.where(padding_mask < 0, padding_mask, mask)
            """,
            "CausalSelfAttention.attention_weights": """
                mask = self._complete_mask(key, query, attention_mask)
                exp = (torch.matmul(query, key.mT) * query.size(-1) ** -0.5 + mask)
                exp = (exp - exp.max(dim=-1, keepdim=True).values).exp()
                return exp / exp.sum(dim=-1, keepdim=True)
            """,
        },
        LAYER: {
            "GPT2Layer.add": """
                output = dense_layer(output)
                output = dropout(output)
                return output + input
            """
        },
        MODEL: {
            "GPT2Model.hidden_state_to_token": """
                return torch.matmul(hidden_state, self.word_embedding.weight.transpose(0, 1))
            """
        },
        LOSS: {
            "next_token_loss": """
                input_ids, attention_mask, labels = _unpack(batch)
                logits = model.hidden_state_to_token(model(input_ids, attention_mask)["last_hidden_state"])
                losses = []
                for i in range(len(labels)):
                    for t in range(labels.size(1) - 1):
                        if labels[i, t + 1] != IGNORED:
                            losses.append(-logits[i, t].log_softmax(-1)[labels[i, t + 1]])
                losses = torch.stack(losses)
                return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / len(losses)}[reduction]
            """
        },
    },
    "einsum": {
        ATTENTION: {
            "CausalSelfAttention.attention": """
                T, S = query.size(2), key.size(2)
                scores = torch.einsum("bhtd,bhsd->bhts", query, key) / math.sqrt(key.size(-1))
                visible = torch.tril(torch.ones(T, S), diagonal=S - T).bool()
                scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
                if attention_mask is not None:
                    scores = scores + attention_mask
                weights = self.dropout(torch.nn.functional.softmax(scores, dim=-1))
                out = torch.einsum("bhts,bhsd->bthd", weights, value)
                return out.reshape(out.size(0), T, -1)
            """
        },
        MODEL: {
            "GPT2Model.hidden_state_to_token": """
                return torch.einsum("...d,vd->...v", hidden_state, self.word_embedding.weight)
            """
        },
        LOSS: {
            "next_token_loss": """
                input_ids, attention_mask, labels = _unpack(batch)
                logits = model.hidden_state_to_token(model(input_ids, attention_mask)["last_hidden_state"])
                shifted = logits[:, :-1].reshape(-1, logits.size(-1))
                targets = labels[:, 1:].reshape(-1)
                losses = torch.nn.functional.cross_entropy(
                    shifted, targets, ignore_index=IGNORED, reduction=reduction
                )
                return losses[targets != IGNORED] if reduction == "none" else losses
            """
        },
        ADAMW: {
            "AdamW._update": """
                grad = p.grad.data
                state["step"] += 1
                t = state["step"]
                state["exp_avg"] = betas[0] * state["exp_avg"] + (1 - betas[0]) * grad
                state["exp_avg_sq"] = betas[1] * state["exp_avg_sq"] + (1 - betas[1]) * grad**2
                m, v = state["exp_avg"], state["exp_avg_sq"]
                if correct_bias:
                    m, v = m / (1 - betas[0]**t), v / (1 - betas[1]**t)
                p.data = p.data - lr * m / (v.sqrt() + eps)
                if weight_decay > 0:
                    p.data = p.data - lr * weight_decay * p.data
            """
        },
    },
    "sdpa": {
        ATTENTION: {
            "CausalSelfAttention.attention": """
                T, S = query.size(2), key.size(2)
                bias = torch.zeros(T, S).masked_fill(~torch.ones(T, S).tril(S - T).bool(), -1e30)
                if attention_mask is not None:
                    bias = (bias + attention_mask).clamp(min=torch.finfo(query.dtype).min)
                out = torch.nn.functional.scaled_dot_product_attention(
                    query, key, value, attn_mask=bias.to(query.dtype),
                    dropout_p=self.dropout.p if self.training else 0.0,
                )
                return out.permute(0, 2, 1, 3).contiguous().view(out.size(0), T, -1)
            """
        },
        GENERATE: {
            "token_by_token": """
                start = ids.size(1)
                done = torch.zeros(len(ids), dtype=torch.bool)
                while ids.size(1) < start + max_new_tokens and not done.all():
                    logits = model.hidden_state_to_token(model(ids, mask)["last_token"])
                    token = logits.argmax(-1)
                    if choose is not None:
                        token = choose(logits, ids, mask)[:, 0]
                    token = torch.where(done, torch.full_like(token, eos), token)
                    done = done | (token == eos)
                    ids = torch.cat([ids, token[:, None]], dim=1)
                    mask = torch.cat([mask, torch.ones_like(token)[:, None]], dim=1)
                return ids[:, start:]
            """
        },
    },
}  # fmt: skip


def edited(source: str, edits: list[tuple[str, str]]) -> str:
    """The source after all edits; AssertionError where an old text does not stand there once."""
    for old, new in edits:
        assert source.count(old) == 1, f"{old!r} stands there {source.count(old)} times"
        source = source.replace(old, new)
    return source


def with_bodies(source: str, bodies: dict[str, str]) -> str:
    """The source with other bodies of functions, by qualified name."""
    for name, body in bodies.items():
        node = ast.parse(source)
        for part in name.split("."):
            (node,) = [
                child
                for child in node.body
                if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == part
            ]
        lines = source.splitlines()
        new = textwrap.indent(textwrap.dedent(body).strip(), " " * node.body[0].col_offset)
        lines[node.body[0].lineno - 1 : node.end_lineno] = new.splitlines()
        source = "\n".join(lines) + "\n"
    return source
