"""Generation with a 124M model: 200 new tokens, greedy, batch 1 and 8, beside transformers."""

import copy
from collections.abc import Iterator

import torch

from benchmarks.contest import Contest
from benchmarks.evaluation import TINY
from benchmarks.options import Options
from benchmarks.peers import hugging_face, same_weights
from config import GPT2Config
from gpt2.generate import generate

PROMPT = 16  # tokens


def contests(options: Options) -> Iterator[Contest]:
    config = GPT2Config(**(TINY if options.quick else {}))
    new = 8 if options.quick else 200
    reference = hugging_face(config, options.device).eval()
    model = same_weights(reference, config).eval()
    weights = sum(p.numel() for p in model.parameters())
    networks = {}
    for precision in options.precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        networks[precision] = [copy.deepcopy(each).to(dtype) for each in (reference, model)]
    for batch in (1, 8):
        ids = torch.randint(50257, (batch, PROMPT), generator=torch.Generator().manual_seed(batch))
        ids = ids.to(options.device)
        ways, compare, traffic = {}, [], {}
        for precision, (theirs, mine) in networks.items():
            ways[f"transformers, {precision}"] = lambda turn, m=theirs, ids=ids: by_transformers(
                m, ids, new
            )
            ways[f"ours, {precision}"] = lambda turn, m=mine, ids=ids: generate(
                m, ids, max_new_tokens=new, eos=-1
            )
            compare.append((f"ours, {precision}", f"transformers, {precision}"))
            # Every step reads all the weights once.
            size = 2 if precision == "bf16" else 4
            traffic |= dict.fromkeys(list(ways)[-2:], float(new * weights * size))

        def agree(found):
            return {
                f"same tokens, {p}": (found[f"ours, {p}"] == found[f"transformers, {p}"])
                .float()
                .mean()
                .item()
                for p in networks
            }

        name = f"generation, batch {batch}"
        yield Contest(name, "tokens", batch * new, ways, compare, traffic=traffic, agree=agree)


def by_transformers(model, ids, new: int):
    mask = torch.ones_like(ids)
    return model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        use_cache=True,
        pad_token_id=50256,
        eos_token_id=None,
    )[:, ids.size(1) :]
