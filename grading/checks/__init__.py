"""One check for each exercise of the handout: the result beside what was expected, and a hint.

    from grading.checks import check
    check()              # all of them
    check("attention")   # one

The notebook and the tests call the same functions. What is expected comes from transformers and
from the handout's formulas, never from the package under test, which is imported only where a check
calls it.
"""

from collections.abc import Callable

from grading.checks import generation, model, optimizer, training
from grading.checks.findings import Findings, Report, run
from grading.checks.places import CANNOT, NEEDS, file_by_file
from grading.checks.stale import changed_files

CHECKS: dict[str, Callable[[Findings], None]] = {
    "attention": model.check_attention,
    "add": model.check_add,
    "layer forward": model.check_layer,
    "embed": model.check_embed,
    "hidden_state_to_token": model.check_hidden_state_to_token,
    "sanity check": model.check_model,
    "AdamW.step": optimizer.check_optimizer,
    "next_token_loss": training.check_loss,
    "pretraining step": training.check_pretraining_step,
    "generation": generation.check_generation,
    "labels": training.check_labels,
    "fine-tuning step": training.check_finetuning,
    "parameter count": training.check_parameters,
    "training costs": training.check_training_costs,
}


def check(*exercises: str, config=None) -> Report:
    """Run the checks of these exercises, or of all; ValueError for an unknown name.

    Where one fails because of another, that is what it says. `config` is the model's shape in the
    sanity check, by default GPT-2's (124M), as in the handout.
    """
    if unknown := [name for name in exercises if name not in CHECKS]:
        raise ValueError(f"no exercise {unknown[0]!r}; there are {', '.join(CHECKS)}")
    for file in changed_files():
        print(f"{file} has changed since it was imported: restart the kernel to use what it says")
    found: dict[str, Findings] = {}

    def judged(name: str) -> Findings:
        if name not in found:
            found[name] = result = run(name, check_function(name, config))
            own = result.state != "failed" or CANNOT in result.problem
            needs = () if own else NEEDS.get(name, ())
            if wrong := next((need for need in needs if judged(need).state != "passed"), ""):
                result.state_if_stopped = "waits"
                result.problem = f"follows from {wrong}, whose own check says why"
        return found[name]

    return Report([judged(name) for name in exercises or CHECKS])


def check_function(exercise: str, config=None) -> Callable[[Findings], None]:
    """Return the check of an exercise; the sanity check is for a model of this shape."""
    settings = {"config": config} if exercise == "sanity check" else {}

    def function(findings: Findings) -> None:
        with file_by_file():
            CHECKS[exercise](findings, **settings)

    return function
