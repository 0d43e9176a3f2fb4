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
    unspaced = train.lang in ("zh", "th")
    features = TfidfVectorizer(
        analyzer="char" if unspaced else "word",
        ngram_range=(1, 3) if unspaced else (1, 2),
        token_pattern=None if unspaced else r"\S+",
        sublinear_tf=True,
    )
    model = make_pipeline(features, LogisticRegression(max_iter=1000))
    model.fit(_hypotheses(train), train.labels)
    probabilities = pd.DataFrame(model.predict_proba(_hypotheses(test)), columns=model.classes_)
    predictions = pd.DataFrame(
        {
            "pair_id": test.pair_ids,
            "label": test.labels,
            "prediction": probabilities.idxmax(axis=1),
        }
    )
    for digit in DIGITS:
        predictions[f"p({digit})"] = probabilities.get(digit, 0.0)
    return Evaluation(predictions)


def _hypotheses(dataset: XNLIDataset) -> pd.Series:
    hypotheses = dataset.data["hypo"]
    if dataset.lang == "zh":  # train is cut into words by spaces, test is not
        hypotheses = hypotheses.str.replace(" ", "", regex=False)
    return hypotheses
