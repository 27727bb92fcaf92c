"""What a dry run tells of folds, transfers and thresholds."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from emocache.train.config.loading import load_settings
from emocache.train.run import dry_run
from emocache.train.run.experiment_plan import Plan, make_plan

if TYPE_CHECKING:
    from .conftest import Toy

TRANSFER = """
streams = ["toy"]
targets = ["emotion"]
[protocol]
name = "transfer"
train_on = "culture=C1|de"
test_on = "culture=C2"
codes = {C1 = ["zh", "cn"], C2 = "hu"}
[head]
kind = "probe"
"""
GROUPS = (
    'streams = ["toy"]\ntargets = ["emotion"]\n[protocol]\nname = "group_folds"\nfolds = 3\n[head]\nkind = "probe"\n'
)


def cultures(toy: "Toy", text: str, *drop: str) -> Plan:
    """Three pairs of speakers, Chinese, German and Hungarian, six clips each; only the last have labels in `drop`."""
    corpus = toy.corpus()
    names = {"S1": "zh", "S2": "zh", "S3": "de", "S4": "de", "S5": "hu", "S6": "hu"}
    rows = [replace(row, culture=names[str(row.speaker)], labels=dict(row.labels)) for row in corpus.rows]
    rows = [row for row in rows if row.culture == "hu" or row.labels["emotion"] not in drop]
    corpus.frames = {row.id: corpus.frames[row.id] for row in rows}
    cache = toy.cache(type(corpus)(rows, corpus.frames))
    return make_plan(cache, ["toys"], toy.folder / "runs", "small", load_settings(toy.experiment(text))[1])


def test_a_transfer_tells_what_trains_and_what_tests(toy: "Toy") -> None:
    plan = cultures(toy, TRANSFER)
    assert ("transfer: trains on culture=C1|de (C1 is cn or zh); tests on culture=C2 (C2 is hu)") in list(
        dry_run.summary(plan)
    )
    (speaker,) = {plan.dataset.examples[row].culture for row in plan.folds[0].valid}
    trained = {"zh": "12 de; valid 12 zh", "de": "12 zh; valid 12 de"}[str(speaker)]
    assert list(dry_run.fold_lines(plan)) == [
        "fold 0: 12 train, 12 valid, 12 test of S5, S6: 4 angry, 4 happy, 4 sad",
        f"  culture: train {trained}; test 12 hu",
    ]


def test_classes_that_only_the_test_part_has_are_told(toy: "Toy") -> None:
    line, _ = dry_run.fold_lines(cultures(toy, TRANSFER, "happy"))
    assert line.endswith("12 test of S5, S6: 4 angry, 4 happy, 4 sad; never trained: happy")


def test_all_lines_of_one_fold_are_told(toy: "Toy") -> None:
    plan = cultures(toy, GROUPS)
    every = list(dry_run.fold_lines(plan))
    assert len(every) == 6 and list(dry_run.fold_lines(replace(plan, only=(1,)))) == every[2:4]
    assert every[2].startswith("fold 1: ") and every[3].startswith("  culture: ")


@pytest.mark.parametrize("scope", ["train", "all"])
@pytest.mark.parametrize("threshold", ["median", "mean", "zero"])
def test_a_threshold_is_told_with_its_classes(toy: "Toy", threshold: str, scope: str) -> None:
    settings = toy.settings("targets=intensity", f"threshold={threshold}", f"features.fit_scope={scope}")
    plan = make_plan(toy.cache(), ["toys"], toy.folder / "runs", "small", settings)
    values = np.array([np.asarray(example.reference)[0] for example in plan.dataset.examples])
    for fold, line in zip(plan.folds, dry_run.fold_lines(plan), strict=True):
        seen = fold.train if scope == "train" else slice(None)
        boundary = 0.0 if threshold == "zero" else getattr(np, threshold)(values[seen])
        high = int((values[fold.test] > boundary).sum())
        where = "" if threshold == "zero" else f", the {threshold} of {scope}"
        assert line.endswith(f": {12 - high} low, {high} high (high above {boundary:g}{where})")


def test_what_a_validation_group_shares_is_told(toy: "Toy") -> None:
    settings = toy.settings(
        "protocol.group=session", "protocol.validation=fraction", "protocol.validation_group=emotion"
    )
    plan = make_plan(toy.cache(), ["toys"], toy.folder / "runs", "small", settings)
    line = list(dry_run.summary(plan))[-1]
    assert line == (
        "shared between train, valid and test: speakers 12 in train and valid (over all folds); sessions 6 in train and"
        " valid (over all folds); emotions 6 in train and test, 3 in valid and test (over all folds)"
    )
