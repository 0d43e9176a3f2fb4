"""NLI evaluation with a 124M model: English test pairs, the same random weights for all.

Peers: the plain loop (one prompt, all logits, whole vocabulary, as the handout describes it) and
transformers on length-sorted batches with logits at the last token only.
"""

import copy
from collections.abc import Iterator

import torch

from benchmarks.contest import Contest
from benchmarks.options import Options
from benchmarks.peers import hugging_face, same_weights
from config import GPT2Config
from experiments.plan import forward_flop
from gpt2.evaluate import answer

BATCH = 16  # of the sorted peer
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@torch.no_grad()
def plain(model, prompts):
    """One prompt at a time; all logits are computed, the last row is used."""
    answers = []
    for prompt in prompts:
        logits = model(prompt[None]).logits
        answers.append(int(logits[0, -1].argmax()))
    return answers


@torch.no_grad()
def sorted_batches(model, prompts):
    """Sorted by length, padded on the left, logits at the last position only."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [0] * len(prompts)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        ids = torch.nn.utils.rnn.pad_sequence(
            [prompts[i] for i in rows], batch_first=True, padding_side="left"
        )
        lengths = torch.tensor([len(prompts[i]) for i in rows])
        mask = (torch.arange(ids.size(1)) >= ids.size(1) - lengths[:, None]).long()
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        ids, mask, positions = (x.to(model.device) for x in (ids, mask, positions))
        logits = model(ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits
        for i, token in zip(rows, logits[:, -1].argmax(-1).tolist(), strict=True):
            answers[i] = token
    return answers


def ours(model, prompts):
    return answer(model, prompts, [])[0].tolist()


def contests(options: Options) -> Iterator[Contest]:
    config = GPT2Config(**(TINY if options.quick else {}))
    rows = options.dataset("test", subset=32.0 if options.quick else 300.0)
    prompts = [rows[i]["input_ids"] for i in range(len(rows))]
    reference = hugging_face(config, options.device).eval()
    model = same_weights(reference, config).eval()
    on_device = [prompt.to(options.device) for prompt in prompts]
    ways = {"plain loop, float32": lambda turn: plain(reference, on_device)}
    compare = [("ours, float32", "plain loop, float32")]
    for precision in options.precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        theirs, mine = (copy.deepcopy(network).to(dtype) for network in (reference, model))
        ways[f"transformers sorted, {precision}"] = lambda turn, m=theirs: sorted_batches(
            m, prompts
        )
        ways[f"ours, {precision}"] = lambda turn, m=mine: ours(m, prompts)
        compare.append((f"ours, {precision}", f"transformers sorted, {precision}"))
    if "ours, bf16" in ways:
        compare.append(("ours, bf16", "plain loop, float32"))

    def agree(answers):
        truth = answers["plain loop, float32"]
        return {
            f"same answers as the plain loop: {name}": sum(map(int.__eq__, found, truth))
            / len(truth)
            for name, found in answers.items()
            if found is not truth
        }

    flop = forward_flop(config, [len(prompt) for prompt in prompts], len(prompts))
    yield Contest("NLI evaluation", "pairs", len(prompts), ways, compare, flop=flop, agree=agree)
