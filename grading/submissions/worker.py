"""What the grader runs inside the sandbox, in a copy of the submission, on the student's package.

    python -m grading.submissions.worker record OUT SHAPE EXERCISE [EXERCISE ...]
    python -m grading.submissions.worker predict OUT WEIGHTS PROMPTS

`record` leaves OUT/EXERCISE.safetensors with what was observed of an exercise, and `predict`
OUT/predictions.safetensors: the most probable token after each prompt.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def record(out: Path, shape: str, exercises: list[str]) -> None:
    from config import GPT2Config
    from grading.checks import check_function
    from grading.submissions.recording import record

    for name in exercises:
        function = check_function(name, GPT2Config(**json.loads(shape)))
        record(name, function, out / f"{name}.safetensors")


@torch.no_grad()
def predict(out: Path, weights: str, prompts: str) -> None:
    from gpt2.model import GPT2Model

    model = GPT2Model.from_pretrained(weights).eval()
    answers = []
    for _, ids in sorted(load_file(prompts).items()):
        last = model(ids[None], torch.ones_like(ids[None]))["last_token"]
        answers.append(int(model.hidden_state_to_token(last)[0].argmax()))
    save_file({"answers": torch.tensor(answers)}, out / "predictions.safetensors")


if __name__ == "__main__":
    command, out, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    if command == "record":
        record(Path(out), rest[0], rest[1:])
    else:
        predict(Path(out), *rest)
