"""The frontier of accuracy and cost: every method, measured in the same way.

    python -m extensions miniature --seeds 0 1 2

For each way to fine-tune the learning rate is chosen on dev among at least three, with the first
seed: in published comparisons that alone moves prefix-tuning from 19 to 42 per cent (peft's method
comparison). The fully fine-tuned model of each seed is then made smaller in every way. What each
reached and cost is measured in comparison.py, which makes tables of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from config import FinetuningSettings, GPT2Config
from experiments.evaluation import Evaluation
from experiments.finetuning import FinetunedRun, finetune
from experiments.runs import RUNS, check_seeds, load_gpt2
from extensions.distillation import student_of
from extensions.methods import FULL, METHODS, Compression, Examples, Method
from gpt2.evaluate import predict
from gpt2.loss import mean_loss
from gpt2.model import GPT2Model
from gpt2.xnli import XNLIDataset
from utils import get_device


def plain(method: str) -> str:
    """Return a method's name as one of files."""
    return method.replace(" ", "_").replace(",", "")


class Frontier:
    """The runs of some methods and what they cost; each run is trained when it is first needed.

    `settings` is the recipe, `text` a loader of held-out pretraining text, on which forgetting is
    measured; `languages` are those to test besides the first one that is trained on. `compressions`
    change the fully fine-tuned model. The other arguments are as in
    experiments.finetuning.finetune.
    """

    def __init__(
        self,
        settings: FinetuningSettings,
        *,
        weights,
        data,
        text: DataLoader,
        runs=RUNS,
        methods: dict[str, Method] = METHODS,
        compressions: dict[str, Compression] | None = None,
        seeds: Sequence[int] = (0, 1, 2),
        languages: Sequence[str] = (),
    ):
        if FULL not in methods:
            raise ValueError(f"methods must have {FULL!r}, which the others are compared with")
        self.settings, self.methods, self.text = settings, methods, text
        self.seeds = check_seeds(seeds)
        self.compressions = compressions or {}
        self.where = {"weights": weights, "data": data, "runs": runs}
        self.languages = tuple(dict.fromkeys((settings.languages[0], *languages)))
        self.chosen: dict[str, float] = {}
        self._runs: dict[tuple[str, float, int], FinetunedRun] = {}
        self._evaluations: dict[tuple[str, int], dict[str, Evaluation]] = {}

    def like(self, **changes) -> "Frontier":
        """Return a comparison of the same data with other `settings` or `methods`."""
        same = {"settings": self.settings, "methods": self.methods, "seeds": self.seeds}
        return Frontier(**same | changes, **self.where, text=self.text)

    def run(self, method: str, rate: float, seed: int) -> FinetunedRun:
        """Return the run of a method at a multiple of the recipe's learning rate."""
        if (method, rate, seed) not in self._runs:
            self._runs[method, rate, seed] = self._run(method, rate, seed)
        return self._runs[method, rate, seed]

    def _run(self, method: str, rate: float, seed: int) -> FinetunedRun:
        how, where, loss = self.methods[method], dict(self.where), {}
        settings = replace(
            self.settings, seed=seed, learning_rate=rate * self.settings.learning_rate
        )
        if how.layers is not None:
            name = "-".join(["student", *map(str, how.layers)])
            where["weights"] = Path(where["runs"], "students", name)
            student = student_of(GPT2Model.from_pretrained(self.where["weights"]), how.layers)
            student.save_pretrained(where["weights"], tokenizer=self.tokenizer)
        if how.loss is not None:
            loss["loss_fn"] = partial(how.loss, teacher=self.trained(FULL, seed).model().eval())
        return finetune(settings, name=plain(method), prepare=how.prepare, **loss, **where)

    def rate(self, method: str) -> float:
        """Return the multiple with the best dev accuracy of the first seed; print all of them."""
        if method not in self.chosen:
            rates = self.methods[method].rates
            dev = [self.run(method, r, self.seeds[0]).result["dev_accuracy"] for r in rates]
            self.chosen[method] = rates[dev.index(max(dev))]
            tried = ", ".join(
                f"{rate * self.settings.learning_rate:.1e} {accuracy:.3f}"
                for rate, accuracy in zip(rates, dev, strict=True)
            )
            print(f"{method}: dev accuracy by learning rate: {tried}")
        return self.chosen[method]

    def trained(self, method: str, seed: int) -> FinetunedRun:
        """Return the run of a method at its best learning rate."""
        return self.run(method, self.rate(method), seed)

    def model(self, name: str, seed: int) -> GPT2Model:
        """Return the model of a method or of a compression, in evaluation mode."""
        model = self.trained(name if name in self.methods else FULL, seed).model().eval()
        if name not in self.methods:
            self.compressions[name](model, self.examples)
        return model

    @cached_property
    def base_config(self) -> GPT2Config:
        """The pretrained model's configuration."""
        return GPT2Config.from_pretrained(self.where["weights"])

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The pretrained model's tokenizer."""
        return load_gpt2(self.where["weights"])[1]

    @cached_property
    def text_loss_before(self) -> float:
        """The pretrained model's mean loss on the text, in nats a token."""
        base = GPT2Model.from_pretrained(self.where["weights"]).to(get_device())
        return mean_loss(base, self.text)

    @cached_property
    def examples(self) -> Examples:
        """The first 64 training pairs."""
        rows = self.rows("train", self.languages[0], subset=64.0)
        prompts = [row["input_ids"][:-1].to(get_device()) for row in rows]
        return Examples(prompts, self.batches(rows, 1))

    def evaluations(self, name: str, seed: int) -> dict[str, Evaluation]:
        """Return the predictions for the test set in each of the languages."""
        if (name, seed) not in self._evaluations:
            if name in self.methods:
                run, each = self.trained(name, seed), {"split": "test", "progress": False}
                found = {lang: run.evaluation(lang=lang, **each) for lang in self.languages}
            else:
                model = self.model(name, seed)
                found = {lang: self.predict(model, lang) for lang in self.languages}
            self._evaluations[name, seed] = found
        return self._evaluations[name, seed]

    def rows(self, split: str, lang: str, subset: float = 1.0) -> XNLIDataset:
        """Return the pairs of a split in a language."""
        length = min(self.settings.max_length, self.base_config.max_position_embeddings)
        common = {"tokenizer": self.tokenizer, "verbose": False, "max_length": length}
        return XNLIDataset.in_folder(self.where["data"], split, lang, subset=subset, **common)

    def predict(self, model: GPT2Model, lang: str) -> Evaluation:
        """Return a model's predictions for the test set in a language."""
        rows = self.rows("test", lang)
        return Evaluation(predict(model, rows.tokenizer, rows, progress=False))

    def batches(self, rows: XNLIDataset, size: int) -> list[dict[str, Tensor]]:
        """Return batches of training pairs, on the device of training."""
        names = ("input_ids", "attention_mask", "labels")
        loader = DataLoader(rows, size, collate_fn=rows.collate_fn)
        return [{name: batch[name].to(get_device()) for name in names} for batch in loader]
