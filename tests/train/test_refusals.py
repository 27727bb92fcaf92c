"""Settings that would leak, or cannot be meant together, are refused with the remedy."""

from typing import TYPE_CHECKING

import pytest

from emocache.cache import EmocacheError

if TYPE_CHECKING:
    from .conftest import Toy

WORDS = ("features.trainable_words=vector", "features.normalise=none", "head.kind=recurrent")
REFIT = ("selection.refit=true",)
LBFGS = ("training.optimiser=lbfgs",)
REFUSED = {
    "refit on test": (
        ("selection.refit=true", "protocol.validation=test"),
        "refit would train on the test part's groups",
    ),
    "refit on half": (
        ("selection.refit=true", "protocol.validation=half"),
        "refit would train on the test part's groups",
    ),
    "vote over random folds": (
        ("vote=emotion", "protocol.name=random_folds"),
        "vote: parts of one emotion would lie on two sides of a fold",
    ),
    "vote with random validation": (
        ("vote=emotion", "protocol.validation=random_utterance"),
        "would lie on two sides of a fold",
    ),
    "augmented words": ((*WORDS, "augment.noise=0.1"), "words of 'frames' are looked up by number; leave out"),
    "normalised words": ((*WORDS, "features.normalise=train"), "set normalise = 'none' for this input"),
    "lbfgs on samples": (
        ("training.optimiser=lbfgs", "training.sampling=replacement"),
        "needs the same batch in every",
    ),
    "lbfgs with noise": ((*LBFGS, "augment.noise=0.1"), "leave out augment"),
    "kept of several": (
        ("task=regression", 'targets=["a", "b"]', "targets_apart=true", "keep=embedding"),
        "targets_apart trains several: train them one by one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(toy: "Toy", name: str) -> None:
    changes, message = REFUSED[name]
    with pytest.raises(EmocacheError, match=message):
        toy.settings(*changes)


def test_refit_after_half_of_a_random_fold_is_allowed(toy: "Toy") -> None:
    assert toy.settings(
        "selection.refit=true", "protocol.validation=half", "protocol.name=random_folds"
    ).selection.refit
