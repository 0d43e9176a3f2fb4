"""Wrong and right implementations of every exercise, as small edits of our own.

A mutation is (exercise, file, what is wrong, edits); an edit is (old text, new text), where the
old one stands once in the file. A style is another right way to write the same.
"""

import ast
import textwrap

ATTENTION, LAYER, MODEL = "gpt2/attention.py", "gpt2/layer.py", "gpt2/model.py"
ADAMW, LOSS, TRAIN = "optim/adamw.py", "gpt2/loss.py", "gpt2/train.py"
GENERATE, DECODING = "gpt2/generate.py", "gpt2/decoding.py"
XNLI, PROMPTS = "gpt2/xnli.py", "gpt2/prompts.py"

# AdamW's step as a student writes it: by the formulas, without the fused kernel.
FORMULAS = ('if _kernel_takes(p, state["exp_avg"], state["exp_avg_sq"], group):', "if False:")
ADD = "return input + dropout(dense_layer(output))"
EMBED = "self.word_embedding(input_ids) + self.pos_embedding(position_ids)"
PROJECT = "return F.linear(hidden_state, self.word_embedding.weight)"
WEIGHTS = "weights = self.dropout(scores.softmax(dim=-1))"
ADD_MASK = "scores = scores + attention_mask"
RATIO = "p.addcdiv_(m, denominator, value=-step_size)"
DECAY = 'p.mul_(1 - group["lr"] * group["weight_decay"])'

MUTATIONS = [
    ("attention", ATTENTION, "scaling forgotten", [("/ math.sqrt(query.size(-1))", "")]),
    ("attention", ATTENTION, "scaled by the hidden size",
     [("/ math.sqrt(query.size(-1))", "/ math.sqrt(query.size(-1) * query.size(1))")]),
    ("attention", ATTENTION, "no causal mask",
     [("scores = scores.masked_fill(_future(query, key), -torch.inf)", "pass")]),
    ("attention", ATTENTION, "does not see itself", [(".triu(1 + S - T)", ".triu(S - T)")]),
    ("attention", ATTENTION, "sees the next one", [(".triu(1 + S - T)", ".triu(2 + S - T)")]),
    ("attention", ATTENTION, "pads are seen", [(ADD_MASK, "pass")]),
    ("attention", ATTENTION, "mask after the softmax",
     [(ADD_MASK, "pass"),
      (WEIGHTS, WEIGHTS + " * (1 if attention_mask is None else attention_mask == 0)")]),
    ("attention", ATTENTION, "mask added after the softmax",
     [(ADD_MASK, "pass"), (WEIGHTS, WEIGHTS + " + (0 if attention_mask is None else attention_mask)")]),
    ("attention", ATTENTION, "dropout on the scores",
     [(WEIGHTS, "weights = self.dropout(scores).softmax(dim=-1)")]),
    ("attention", ATTENTION, "no dropout", [(WEIGHTS, "weights = scores.softmax(dim=-1)")]),
    ("attention", ATTENTION, "softmax over the queries",
     [(WEIGHTS, "weights = self.dropout(scores.softmax(dim=-2))")]),
    ("attention", ATTENTION, "heads merged in the wrong order",
     [(".transpose(1, 2).flatten(2)", ".reshape(query.size(0), query.size(2), -1)")]),
    ("attention", ATTENTION, "query and key exchanged",
     [("query @ key.transpose(-1, -2)", "key @ query.transpose(-1, -2)")]),
    ("attention", ATTENTION, "the kernel without causality",
     [("is_causal=is_causal", "is_causal=False")]),
    ("attention", ATTENTION, "the kernel drops in evaluation",
     [("self.dropout.p if self.training else 0.0", "self.dropout.p")]),
    ("attention", ATTENTION, "heads not merged", [(".transpose(1, 2).flatten(2)", "")]),

    ("add", LAYER, "no residual", [(ADD, "return dropout(dense_layer(output))")]),
    ("add", LAYER, "dropout over all", [(ADD, "return dropout(input + dense_layer(output))")]),
    ("add", LAYER, "dropout too early", [(ADD, "return input + dense_layer(dropout(output))")]),
    ("add", LAYER, "no dropout", [(ADD, "return input + dense_layer(output)")]),
    ("add", LAYER, "bias forgotten", [(ADD, "return input + dropout(output @ dense_layer.weight.T)")]),
    ("add", LAYER, "in place", [(ADD, "return input.add_(dropout(dense_layer(output)))")]),

    ("layer forward", LAYER, "the exact GELU", [('nn.GELU(approximate="tanh")', "nn.GELU()")]),
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
     [("hidden_states, attended, self.attention_dense",
       "hidden_states, self.attention_dense(attended), self.attention_dense")]),
    ("layer forward", LAYER, "no activation",
     [("self.interm_af(self.interm_dense(self.out_layer_norm(hidden_states)))",
       "self.interm_dense(self.out_layer_norm(hidden_states))")]),
    ("layer forward", LAYER, "the mask is not passed on",
     [("self.attention_layer_norm(hidden_states), attention_mask, cache",
       "self.attention_layer_norm(hidden_states), None, cache")]),
    ("layer forward", LAYER, "the first dropout twice",
     [("widened, self.out_dense, self.out_dropout", "widened, self.out_dense, self.attention_dropout")]),
    ("layer forward", LAYER, "the second dropout twice",
     [("hidden_states, attended, self.attention_dense, self.attention_dropout",
       "hidden_states, attended, self.attention_dense, self.out_dropout")]),
    ("layer forward", LAYER, "the second addition takes the block's input",
     [("hidden_states = self.add(\n            hidden_states, attended",
       "first, hidden_states = hidden_states, self.add(\n            hidden_states, attended"),
      ("return self.add(hidden_states, widened,", "return self.add(first, widened,")]),

    ("embed", MODEL, "no positions", [(EMBED, "self.word_embedding(input_ids)")]),
    ("embed", MODEL, "positions from 1",
     [("position_ids = torch.arange(T,", "position_ids = torch.arange(1, T + 1,")]),
    ("embed", MODEL, "no dropout", [("return self.embed_dropout(", "return (")]),
    ("embed", MODEL, "multiplied", [(EMBED, EMBED.replace("+", "*"))]),
    ("embed", MODEL, "scaled", [(EMBED, f"({EMBED}) * self.config.hidden_size**0.5")]),

    ("hidden_state_to_token", MODEL, "probabilities", [(PROJECT, PROJECT + ".softmax(-1)")]),
    ("hidden_state_to_token", MODEL, "detached", [(PROJECT, PROJECT.replace(".weight)", ".weight.detach())"))]),
    ("hidden_state_to_token", MODEL, "chosen already", [(PROJECT, PROJECT + ".argmax(-1)")]),
    ("hidden_state_to_token", MODEL, "normalised again",
     [(PROJECT, PROJECT.replace("(hidden_state,", "(self.final_layer_norm(hidden_state),"))]),

    ("sanity check", MODEL, "positions ignore left padding",
     [("get_position_ids(attention_mask)[:, read:]", "None")]),
    ("sanity check", MODEL, "no final norm",
     [("hidden_states = self.final_layer_norm(hidden_states)", "pass")]),
    ("sanity check", MODEL, "the last column for the last token",
     [('"last_token": hidden_states[rows, last_column]', '"last_token": hidden_states[:, -1]')]),

    ("AdamW.step", ADAMW, "never corrects", [FORMULAS, ('if group["correct_bias"]:', "if False:")]),
    ("AdamW.step", ADAMW, "always corrects", [FORMULAS, ('if group["correct_bias"]:', "if True:")]),
    ("AdamW.step", ADAMW, "corrects twice",
     [FORMULAS, ('step_size /= 1 - beta1 ** state["step"]', 'step_size /= (1 - beta1 ** state["step"]) ** 2'),
      ("correction = math.sqrt(1 - beta2", "correction = (1 - beta2")]),
    ("AdamW.step", ADAMW, "epsilon inside the root",
     [FORMULAS, ('v.sqrt().div_(correction).add_(group["eps"])', '(v / correction**2 + group["eps"]).sqrt()')]),
    ("AdamW.step", ADAMW, "decay before the update",
     [FORMULAS, (RATIO, f"{DECAY}\n        {RATIO}"),
      (f'if group["weight_decay"] > 0:\n            {DECAY}', "if False:\n            pass")]),
    ("AdamW.step", ADAMW, "coupled decay",
     [FORMULAS, ("g = group[\"betas\"], self.state[p], p.grad",
                 "g = group[\"betas\"], self.state[p], p.grad + group[\"weight_decay\"] * p"),
      (f'if group["weight_decay"] > 0:\n            {DECAY}', "if False:\n            pass")]),
    ("AdamW.step", ADAMW, "decay without the learning rate",
     [FORMULAS, (DECAY, 'p.mul_(1 - group["weight_decay"])')]),
    ("AdamW.step", ADAMW, "no decay", [FORMULAS, (DECAY, "pass")]),
    ("AdamW.step", ADAMW, "gradient not squared",
     [FORMULAS, ("addcmul_(g, g, value=1 - beta2)", "add_(g.abs(), alpha=1 - beta2)")]),
    ("AdamW.step", ADAMW, "no root",
     [FORMULAS, ("v.sqrt().div_(correction)", "v.div(correction**2)")]),
    ("AdamW.step", ADAMW, "the gradient in full", [FORMULAS, ("m.lerp_(g, 1 - beta1)", "m.mul_(beta1).add_(g)")]),
    ("AdamW.step", ADAMW, "uphill", [FORMULAS, (RATIO, RATIO.replace("-step", "step"))]),
    ("AdamW.step", ADAMW, "betas exchanged",
     [FORMULAS, ("(beta1, beta2), state, g =", "(beta2, beta1), state, g =")]),
    ("AdamW.step", ADAMW, "steps are not counted", [FORMULAS, ('state["step"] += 1', 'state["step"] = 1')]),
    ("AdamW.step", ADAMW, "moments are forgotten",
     [FORMULAS, ("if not state:", "if True:"), ('state["step"] = 0', 'state.setdefault("step", 0)')]),

    ("next_token_loss", LOSS, "not shifted", [("targets = labels[:, 1:]", "targets = labels[:, :-1]")]),
    ("next_token_loss", LOSS, "pads counted",
     [("input_ids.masked_fill(~(real & after_a_token), IGNORED)", "input_ids")]),
    ("next_token_loss", LOSS, "one pad counted", [("~(real & after_a_token)", "~after_a_token")]),
    ("next_token_loss", LOSS, "summed", [("return total / num_labels", "return total")]),
    ("next_token_loss", LOSS, "divided by the rows",
     [("return total / num_labels", "return total / len(input_ids)")]),
    ("next_token_loss", LOSS, "detached", [("return total / num_labels", "return total.detach() / num_labels")]),

    ("pretraining step", TRAIN, "gradients pile up",
     [("            optimizer.step()\n            optimizer.zero_grad()", "            optimizer.step()")]),
    ("pretraining step", TRAIN, "no step",
     [("            optimizer.step()\n            optimizer.zero_grad()", "            optimizer.zero_grad()")]),
    ("pretraining step", TRAIN, "half of the loss",
     [("part = loss_fn(model, batch, num_labels)", "part = loss_fn(model, batch, num_labels) / 2")]),
    ("pretraining step", TRAIN, "no backward pass",
     [("accelerator.backward(part * accelerator.num_processes)", "pass")]),

    ("generation", GENERATE, "the least likely", [("logits.argmax(dim=-1, keepdim=True)", "logits.argmin(dim=-1, keepdim=True)")]),
    ("generation", GENERATE, "one too many",
     [("max_new_tokens=max_gen_length,", "max_new_tokens=max_gen_length + 1,")]),
    ("generation", GENERATE, "the prompt is left out",
     [("torch.cat([row[mask.bool()], new])", "new")]),
    ("generation", GENERATE, "end-of-text is passed over",
     [("        if finished.all():\n            break\n", ""),
      ("next_token = next_token.masked_fill(finished[:, None], eos)", "pass")]),
    ("generation", GENERATE, "dropout stays on", [("@in_evaluation_mode\ndef generate(", "def generate(")]),
    ("generation", DECODING, "the first position decides", [("self.read()[:, -1]", "self.read()[:, 0]")]),
    ("generation", DECODING, "the newest token is not read",
     [("self.mask = F.pad(self.mask, (0, tokens.size(1)), value=1)",
       "self.mask = F.pad(self.mask, (0, tokens.size(1)), value=0)")]),
    ("generation", ATTENTION, "the cache is off by one",
     [("start, end = self.length, self.length + key.size(2)",
       "start, end = max(self.length - 1, 0), max(self.length - 1, 0) + key.size(2)")]),

    ("fine-tuning step", XNLI, "all tokens are labels",
     [("labels = torch.full_like(input_ids, IGNORED)", "labels = input_ids.clone()")]),
    ("fine-tuning step", PROMPTS, "another prompt", [('"Premise: {premise}', '"Premise:{premise}')]),
    ("fine-tuning step", XNLI, "labels exchanged",
     [('"contradictory": 1, "neutral": 2}', '"contradictory": 2, "neutral": 1}')]),
    ("fine-tuning step", PROMPTS, "the label is cut off",
     [("room -= 2 * len(newline) + len(starts[2])", "pass")]),
    ("fine-tuning step", XNLI, "pads are labels", [('padded("labels", IGNORED)', 'padded("labels", 0)')]),
    ("fine-tuning step", PROMPTS, "a space before the digit",
     [("tokenizer(prompt + digit,", 'tokenizer(prompt + " " + digit,')]),
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
                            score = score + attention_mask[:, 0, :, s]
                        if s > t + key.size(2) - T:
                            score = torch.full_like(score, -torch.inf)
                        scores.append(score)
                    weights = self.dropout(torch.stack(scores, dim=-1).softmax(dim=-1))
                    seen = (weights[..., None] * value).sum(dim=2)
                    rows.append(torch.cat([seen[:, i] for i in range(h)], dim=-1))
                return torch.stack(rows, dim=1)
            """
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
                input_ids, attention_mask, labels = _unpack(batch, count_padding)
                logits = model.hidden_state_to_token(model(input_ids, attention_mask)["last_hidden_state"])
                total, count = 0.0, 0
                for i in range(len(labels)):
                    for t in range(labels.size(1) - 1):
                        if labels[i, t + 1] != IGNORED:
                            total = total - logits[i, t].log_softmax(-1)[labels[i, t + 1]]
                            count += 1
                return total / (num_labels or count)
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
                input_ids, attention_mask, labels = _unpack(batch, count_padding)
                logits = model.hidden_state_to_token(model(input_ids, attention_mask)["last_hidden_state"])
                shifted = logits[:, :-1].reshape(-1, logits.size(-1))
                total = torch.nn.functional.cross_entropy(
                    shifted, labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum"
                )
                return total / (num_labels or (labels[:, 1:] != IGNORED).sum())
            """
        },
        ADAMW: {
            "AdamW.step": """
                for group in self.param_groups:
                    beta1, beta2 = group["betas"]
                    for p in group["params"]:
                        if p.grad is None:
                            continue
                        grad, state = p.grad.data, self.state[p]
                        if len(state) == 0:
                            state["step"] = 0
                            state["exp_avg"] = torch.zeros_like(p.data)
                            state["exp_avg_sq"] = torch.zeros_like(p.data)
                        state["step"] += 1
                        t = state["step"]
                        state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * grad
                        state["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + (1 - beta2) * grad**2
                        m, v = state["exp_avg"], state["exp_avg_sq"]
                        if group["correct_bias"]:
                            m, v = m / (1 - beta1**t), v / (1 - beta2**t)
                        p.data = p.data - group["lr"] * m / (v.sqrt() + group["eps"])
                        if group["weight_decay"] > 0:
                            p.data = p.data - group["lr"] * group["weight_decay"] * p.data
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
            "_token_by_token": """
                ids, mask = context.ids, context.mask
                start = ids.size(1)
                done = torch.zeros(len(ids), dtype=torch.bool)
                while ids.size(1) < start + max_new_tokens and not done.all():
                    last = context.model(ids, mask)["last_token"]
                    token = context.model.hidden_state_to_token(last).argmax(-1)
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
