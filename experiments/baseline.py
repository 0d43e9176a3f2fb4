"""A baseline that never reads the premise: a classifier of the hypotheses alone.

The wording of hypotheses predicts labels in NLI data sets (Gururangan et al. 2018, Poliak et al.
2018); a model has learnt to compare two sentences only as far as it is better than this.
"""

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from experiments.evaluation import Evaluation
from gpt2.evaluate import DIGITS
from gpt2.xnli import XNLIDataset


def hypothesis_only(train: XNLIDataset, test: XNLIDataset) -> Evaluation:
    """Return the Evaluation on `test` of a logistic regression on the hypotheses of `train`.

    Its features are tf-idf weights of words and pairs of words; in languages without spaces
    (zh, th) of one to three characters.
    """
    unspaced = {"analyzer": "char", "ngram_range": (1, 3)}
    spaced = {"token_pattern": r"\S+", "ngram_range": (1, 2)}
    cut = unspaced if train.lang in ("zh", "th") else spaced
    regression = LogisticRegression(max_iter=1000)
    model = make_pipeline(TfidfVectorizer(**cut, sublinear_tf=True), regression)
    model.fit(_hypotheses(train), train.labels)
    probabilities = pd.DataFrame(model.predict_proba(_hypotheses(test)), columns=model.classes_)
    best = probabilities.idxmax(axis=1)
    table = pd.DataFrame({"pair_id": test.pair_ids, "label": test.labels, "prediction": best})
    return Evaluation(table.assign(**{f"p({d})": probabilities.get(d, 0.0) for d in DIGITS}))


def _hypotheses(dataset: XNLIDataset) -> pd.Series:
    hypotheses = dataset.data["hypo"]
    # Chinese train files are cut into words by spaces, test files are not.
    return hypotheses.str.replace(" ", "", regex=False) if dataset.lang == "zh" else hypotheses
