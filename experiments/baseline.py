"""A baseline that never reads the premise: a classifier of the hypotheses alone.

The wording of hypotheses predicts labels in NLI data sets (Gururangan et al. 2018, Poliak et al.
2018); a model has learnt to compare two sentences only as far as it is better than this.
"""

from collections.abc import Sequence

import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from experiments.evaluation import Evaluation
from gpt2.xnli import XNLIDataset


def hypothesis_only(train: XNLIDataset, test: XNLIDataset) -> Evaluation:
    """Return the Evaluation on `test` of a logistic regression on the hypotheses of `train`.

    Its features are tf-idf weights of words and pairs of words, which white space separates.
    """
    words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(words, linear_classifier(train.labels, max_iter=1000))
    hypothesis = test.task.fields[-1]
    model.fit(train.data[hypothesis], train.labels)
    found = pd.DataFrame(model.predict_proba(test.data[hypothesis]), columns=model.classes_)
    labels = [text.strip() for text in test.task.labels.values()]
    probabilities = found.reindex(columns=labels, fill_value=0.0)
    table = pd.DataFrame({"pair_id": test.pair_ids, "label": test.labels})
    table["prediction"] = probabilities.idxmax(axis=1)
    return Evaluation(table.join(probabilities.rename(columns="p({})".format)), test.task)


def linear_classifier(labels: Sequence, max_iter: int) -> LogisticRegression | DummyClassifier:
    """Return what is to be trained on these labels: of one label alone it always says that one."""
    if len(set(labels)) < 2:
        return DummyClassifier()
    return LogisticRegression(max_iter=max_iter)
