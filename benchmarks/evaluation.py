"""NLI evaluation with a 124M model: us, the plain one-by-one loop, and transformers at its best.

    python -m benchmarks.evaluation --xnli XNLI_DIR [--pairs 150] [--turns 3] [--name NAME]

All read the same English test pairs with the same random weights, in turns A B C A B C; a ratio
is formed turn by turn. Peers: the plain loop (one prompt, all logits, whole vocabulary, as the
handout describes it) and transformers on length-sorted batches with logits at the last token only.
"""

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

from benchmarks import report
from config import GPT2Config
from gpt2 import checkpoint
from gpt2.evaluate import answer
from gpt2.model import GPT2Model
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLIDataset

BATCH = 16  # of the sorted peer


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
        logits = model(ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits[
            :, -1
        ]
        for i, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            answers[i] = token
    return answers


def ours(model, prompts):
    return answer(model, prompts, [])[0].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--xnli", type=Path, required=True, help="folder with XNLI-1.0")
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    args = parser.parse_args()
    torch.set_num_threads(2)
    dataset = XNLIDataset(
        "test",
        tokenizer=load_tokenizer(),
        test_path=str(args.xnli / "XNLI-1.0" / "xnli.test.tsv"),
        subset=args.pairs,
    )
    prompts = [dataset[i]["input_ids"] for i in range(len(dataset))]
    torch.manual_seed(0)
    reference = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(attn_implementation="sdpa")
    ).eval()
    model = GPT2Model(GPT2Config()).eval()
    model.load_state_dict(checkpoint.from_hugging_face(reference.state_dict(), GPT2Config()))
    contestants = {"plain loop, float32": (plain, reference)}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        networks = (copy.deepcopy(network).to(dtype) for network in (reference, model))
        for label, function in (("transformers sorted", sorted_batches), ("ours", ours)):
            contestants[f"{label}, {name}"] = (function, next(networks))
    seconds = {name: [] for name in contestants}
    answers = {}
    for _ in tqdm(range(args.turns), desc="turns", ncols=100):
        for name, (function, network) in contestants.items():
            function(network, prompts[:BATCH])  # warm
            began = time.perf_counter()
            answers[name] = function(network, prompts)
            seconds[name].append(time.perf_counter() - began)
    truth = answers["plain loop, float32"]
    rows = {}
    for name, times in seconds.items():
        peers = {}
        for peer in seconds:
            ratios = [b / a for a, b in zip(times, seconds[peer], strict=True)]
            peers[peer] = statistics.median(ratios)
        same = sum(a == b for a, b in zip(answers[name], truth, strict=True)) / len(truth)
        rows[name] = {
            "seconds": statistics.median(times),
            "times_as_fast_as": peers,
            "answers_like_plain": same,
        }
        print(
            f"{name:28s} {rows[name]['seconds']:7.2f} s   "
            f"{peers['plain loop, float32']:5.2f}x plain   same answers {same:.3f}"
        )
    for name in ("float32", "bf16"):
        ratio = rows[f"ours, {name}"]["times_as_fast_as"][f"transformers sorted, {name}"]
        print(f"ours beside transformers sorted, {name}: {ratio:.2f}x")
    if args.name:
        result = {"pairs": len(prompts), "turns": args.turns, "rows": rows}
        print(f"wrote {report.save(args.name, result)}")


if __name__ == "__main__":
    main()
