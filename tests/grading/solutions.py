"""Right solutions in five styles, as texts with a heading over each region's lines."""

import re
import textwrap

from grading.edition.regions import Region, parts

# Einops, the starter's attributes, positions without a cache, loops without a cache.
COURSE = """
## attention
mask = torch.tril(torch.ones(S, S, device=device))[S - T :]
mask = (1.0 - mask) * torch.finfo(dtype).min
if padding_mask is not None:
    mask = torch.maximum(mask + padding_mask, torch.tensor(torch.finfo(dtype).min))
return mask.to(dtype)
## attention 2
scores = torch.matmul(query, rearrange(key, "b h t d -> b h d t"))
scores = scores / (self.attention_head_size**0.5)
return F.softmax(scores + self._complete_mask(key, query, attention_mask), dim=-1)
## attention 3
q_len, k_len = query.shape[2], key.shape[2]
scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(self.attention_head_size)
causal = torch.tril(torch.ones(k_len, k_len, device=query.device))[-q_len:]
scores = scores.masked_fill(causal == 0, float("-inf"))
if attention_mask is not None:
    scores = scores + attention_mask
probs = self.dropout(nn.functional.softmax(scores, dim=-1))
context = torch.matmul(probs, value)
context = rearrange(context, "b h t d -> b t h d").contiguous()
return context.view(context.size(0), q_len, self.all_head_size)
## add
return dropout(dense_layer(output)) + input
## layer forward
x = self.attention_layer_norm(hidden_states)
x = self.self_attention(x, attention_mask, cache)
attention_output = self.add(hidden_states, x, self.attention_dense, self.attention_dropout)
x = self.interm_af(self.interm_dense(self.out_layer_norm(attention_output)))
return self.add(attention_output, x, self.out_dense, self.out_dropout)
## embed
positions = torch.arange(input_ids.size(1), device=input_ids.device)
inputs_embeds = self.word_embedding(input_ids) + self.pos_embedding(positions).unsqueeze(0)
return self.embed_dropout(inputs_embeds)
## hidden_state_to_token
return hidden_state @ self.word_embedding.weight.T
## AdamW.step
# Epsilon is outside the correction, as optimizer_test.npy was made.
grad = p.grad.data
exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
state["step"] += 1
exp_avg.mul_(betas[0]).add_(grad, alpha=1.0 - betas[0])
exp_avg_sq.mul_(betas[1]).addcmul_(grad, grad, value=1.0 - betas[1])
step_size = lr
if correct_bias:
    correction = 1.0 - betas[0] ** state["step"], 1.0 - betas[1] ** state["step"]
    step_size = lr * math.sqrt(correction[1]) / correction[0]
p.data.addcdiv_(exp_avg, exp_avg_sq.sqrt().add_(eps), value=-step_size)
if weight_decay > 0.0:
    p.data.add_(p.data, alpha=-lr * weight_decay)
## next_token_loss
logits = model.hidden_state_to_token(hidden_states)
shift_logits = logits[:, :-1, :].contiguous().view(-1, logits.size(-1))
shift_labels = labels[:, 1:].contiguous().view(-1)
keep = shift_labels != IGNORED
return F.cross_entropy(shift_logits[keep], shift_labels[keep], reduction=reduction)
## pretraining step
for batch in batches:
    with faster(model), _autocast(accelerator, precision):
        batch_loss = loss_fn(model, batch, reduction="sum") / num_labels
    accelerator.backward(batch_loss)
    loss = loss + batch_loss.detach().item()
## pretraining step 2
optimizer.step()
optimizer.zero_grad(set_to_none=True)
## generation
prompt_len = ids.shape[1]
done = torch.zeros(ids.shape[0], 1, dtype=torch.bool)
for _ in range(max_new_tokens):
    hidden = model(ids, mask)["last_hidden_state"][:, -1]
    logits = model.hidden_state_to_token(hidden)
    token = torch.argmax(logits, dim=-1, keepdim=True)
    if choose is not None:
        token = choose(logits, ids, mask)
    token = torch.where(done, eos, token)
    ids = torch.cat([ids, token], dim=1)
    mask = torch.cat([mask, torch.ones_like(token)], dim=1)
    done = done | (token == eos)
    if done.all():
        break
return ids[:, prompt_len:]
## fine-tuning step
hidden = model(batch["input_ids"], attention_mask=batch["attention_mask"])
logits = model.hidden_state_to_token(hidden["last_hidden_state"])
shift_logits = rearrange(logits[..., :-1, :], "b t v -> (b t) v")
shift_labels = rearrange(batch["labels"][..., 1:], "b t -> (b t)")
loss = F.cross_entropy(shift_logits, shift_labels, ignore_index=-100)
loss.backward()
optimizer.step()
optimizer.zero_grad()
return loss.item()
## parameter count
d, inner = config.hidden_size, config.intermediate_size
layer = 12 * d**2 if inner == 4 * d else 4 * d**2 + 2 * d * inner
layer += 9 * d + inner
embeddings = (config.vocab_size + config.max_position_embeddings) * d
return embeddings + config.num_hidden_layers * layer + 2 * d
## training costs
d, multiplications = config.hidden_size, 0
for _ in range(config.num_hidden_layers):
    for rows, columns in [(d, d)] * 4 + [(d, config.intermediate_size)] * 2:
        multiplications += T * rows * columns
    multiplications += 2 * T * T * d
multiplications += T * d * config.vocab_size
return 6 * multiplications, 16 * parameters
## labels
input_ids = torch.cat([prompt, answer], dim=0)
labels = torch.cat([torch.full((len(prompt),), -100), answer], dim=0)
"""
LOOPS = """
## attention
mask = torch.zeros(T, S, dtype=dtype, device=device)
for t in range(T):
    for s in range(S):
        if s > S - T + t:
            mask[t, s] = torch.finfo(dtype).min
return mask if padding_mask is None else torch.where(padding_mask < 0, padding_mask, mask)
## attention 2
mask = self._complete_mask(key, query, attention_mask)
exp = torch.matmul(query, key.mT) * query.size(-1) ** -0.5 + mask
exp = (exp - exp.max(dim=-1, keepdim=True).values).exp()
return exp / exp.sum(dim=-1, keepdim=True)
## attention 3
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
## embed
rows = []
for ids, places in zip(input_ids, position_ids.expand_as(input_ids)):
    both = zip(self.word_embedding(ids), self.pos_embedding(places))
    rows.append(torch.stack([token + place for token, place in both]))
return self.embed_dropout(torch.stack(rows))
## next_token_loss
logits = model.hidden_state_to_token(hidden_states)
losses = []
for i in range(len(labels)):
    for t in range(labels.size(1) - 1):
        if labels[i, t + 1] != IGNORED:
            losses.append(-logits[i, t].log_softmax(-1)[labels[i, t + 1]])
losses = torch.stack(losses)
return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / len(losses)}[reduction]
"""
EINSUM = """
## attention 2
scores = torch.einsum("bhtd,bhsd->bhts", query, key) * query.size(-1) ** -0.5
return torch.softmax(scores + self._complete_mask(key, query, attention_mask), -1)
## attention 3
T, S = query.size(2), key.size(2)
scores = torch.einsum("bhtd,bhsd->bhts", query, key) / math.sqrt(key.size(-1))
visible = torch.tril(torch.ones(T, S), diagonal=S - T).bool()
scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
if attention_mask is not None:
    scores = scores + attention_mask
out = torch.einsum("bhts,bhsd->bthd", self.dropout(scores.softmax(dim=-1)), value)
return out.reshape(out.size(0), T, -1)
## hidden_state_to_token
return torch.einsum("...d,vd->...v", hidden_state, self.word_embedding.weight)
## next_token_loss
logits = torch.log_softmax(model.hidden_state_to_token(hidden_states[:, :-1]), dim=-1)
targets = labels[:, 1:]
one_hot = F.one_hot(targets.clamp(min=0), logits.size(-1)).to(logits.dtype)
losses = -torch.einsum("btv,btv->bt", logits, one_hot)[targets != IGNORED]
return losses if reduction == "none" else getattr(torch, reduction)(losses)
## AdamW.step
# The decay of the handout's last formula: of the step before.
grad, before = p.grad.data, p.data
state["step"] += 1
t = state["step"]
state["exp_avg"] = betas[0] * state["exp_avg"] + (1 - betas[0]) * grad
state["exp_avg_sq"] = betas[1] * state["exp_avg_sq"] + (1 - betas[1]) * grad**2
m, v = state["exp_avg"], state["exp_avg_sq"]
if correct_bias:
    m, v = m / torch.tensor(1 - betas[0]**t), v / torch.tensor(1 - betas[1]**t)  # float32
p.data = p.data - lr * m / (v.sqrt() + eps)
if weight_decay > 0:
    p.data = p.data - lr * weight_decay * before
"""
SDPA = """
## attention 3
T, S = query.size(2), key.size(2)
bias = torch.zeros(T, S).masked_fill(~torch.ones(T, S).tril(S - T).bool(), -1e30)
if attention_mask is not None:
    bias = (bias + attention_mask).clamp(min=torch.finfo(query.dtype).min)
out = F.scaled_dot_product_attention(
    query, key, value, attn_mask=bias.to(query.dtype),
    dropout_p=self.dropout.p if self.training else 0.0,
)
return out.permute(0, 2, 1, 3).contiguous().view(out.size(0), T, -1)
## next_token_loss
logits = model.hidden_state_to_token(hidden_states)
targets = labels[:, 1:].reshape(-1)
losses = F.cross_entropy(
    logits[:, :-1].reshape(len(targets), -1), targets, ignore_index=IGNORED,
    reduction=reduction,
)
return losses[targets != IGNORED] if reduction == "none" else losses
"""

IN_PLACE = """
## attention 3
query *= query.size(-1) ** -0.5
weights = (query @ key.mT + self._complete_mask(key, query, attention_mask)).softmax(dim=-1)
return rearrange(self.dropout(weights) @ value, "B h T d -> B T (h d)")
"""


def regions(style: str) -> dict[str, str]:
    """Return the lines of each region by its heading: the exercise, and its number from 2 on."""
    return dict(text.split("\n", 1) for text in style.rstrip().split("\n## ")[1:])


# What a style leaves out is the course's.
SOLUTIONS = {"course": regions(COURSE), "loops": regions(LOOPS)}
SOLUTIONS |= {"einsum": regions(EINSUM), "sdpa": regions(SDPA), "in place": regions(IN_PLACE)}


def solved(source: str, style: str, name: str) -> str:
    """Return one of our files with solutions in a style in its regions, and a course's imports."""
    texts = SOLUTIONS["course"] | SOLUTIONS[style]
    lines = ["import math", "import einops", "from einops import rearrange"]
    for part in parts(source, name):
        if isinstance(part, Region):
            indent = re.match(r"\s*", next(filter(str.strip, part.lines)))[0]
            number = f" {part.place}" if part.place > 1 else ""
            lines += textwrap.indent(texts[f"{part.exercise}{number}"], indent).split("\n")
        else:
            lines.append(part)
    return "\n".join(lines)
