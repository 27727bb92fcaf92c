"""Settings that would leak, or cannot be meant together, are refused with the remedy."""

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from emocache.cache import EmocacheError, Stream
from emocache.train.data.coverage import stored_masks
from emocache.train.data.reading import load_dataset

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
        ("vote=unit", "protocol.name=random_folds"),
        "vote: parts of one unit would lie on two sides of a fold",
    ),
    "vote with random validation": (
        ("vote=unit", "protocol.validation=random_utterance"),
        "would lie on two sides of a fold",
    ),
    "augmented words": ((*WORDS, "augment.noise=0.1"), "words of 'frames' are looked up by number; leave out"),
    "normalised words": ((*WORDS, "features.normalise=train"), "set normalise = 'none' for this input"),
    "lbfgs on samples": (
        ("training.optimiser=lbfgs", "training.sampling=replacement"),
        "needs the same batch in every",
    ),
    "lbfgs with noise": ((*LBFGS, "augment.noise=0.1"), "leave out augment"),
    "a stream twice": (("streams=['toy', 'toy']",), r"streams of 'frames' are \['toy', 'toy'\]; name at least one"),
    "a target twice": (
        ("task=regression", 'targets=["a", "a"]'),
        "'a' is named twice among targets, auxiliary and vote",
    ),
    "a vote by the answer": (("vote=emotion",), "'emotion' is named twice among targets, auxiliary and vote"),
    "a seed beyond numbers": (("seeds=[99999999999999999999999]",), "seeds"),
    "a group without a name": (('protocol.group=""',), "protocol.group"),
    "roles as a number": (("features.roles=5",), "roles is no setting"),
    "a grid beyond memory": (("features.grid_hz=1e9",), "features.grid_hz"),
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


def test_words_of_a_stream_without_words(toy: "Toy") -> None:
    settings = toy.settings("features.words=true")
    for inputs, fine in ((["audio"], False), (["words"], True), ([{"stream": "ab", "inputs": ["audio"]}], True)):
        streams = {"toy": [cast(Stream, SimpleNamespace(recipe={"inputs": inputs, "aux": {}}))]}
        if fine:
            assert stored_masks(streams, [settings]) == {"toy": None}
            continue
        with pytest.raises(
            EmocacheError, match=r"features\.words: stream 'toy' is not of words; leave the setting out"
        ):
            stored_masks(streams, [settings])


def test_refit_after_half_of_a_random_fold_is_allowed(toy: "Toy") -> None:
    assert toy.settings(
        "selection.refit=true", "protocol.validation=half", "protocol.name=random_folds"
    ).selection.refit


DEGENERATE = {
    "a label that nobody has": (
        ('labels={sad=["sadd"], angry=["angry"]}',),
        "labels.sad: no utterance has emotion 'sadd'; did you mean 'sad', which belongs to no class?",
    ),
    "one class": (('labels={angry=["angry"]}',), "target 'emotion' is 'angry' in every utterance"),
    "a constant": (("task=regression", "targets=constant"), "target 'constant' is 3 in every utterance"),
    "parts that differ": (("vote=session",), "vote = 'session': the parts of 'D1' are 'angry' and 'happy'"),
    "a mask that is not stored": (
        ("features.where=face_fond",),
        "features.where = 'face_fond': toy stores no such mask; there is: none",
    ),
    "words without times": (
        ("streams=vector", "features.words=true"),
        "features.words: in stream 'vector' no word has a time",
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_nothing_is_trained_that_means_nothing(toy: "Toy", name: str) -> None:
    changes, message = DEGENERATE[name]
    corpus = toy.corpus()
    corpus.rows = [replace(row, labels={**row.labels, "constant": 3.0}) for row in corpus.rows]
    cache = toy.cache(corpus)
    toy.streams(cache, corpus)
    with pytest.raises(EmocacheError, match=message):
        load_dataset(cache, ["toys"], toy.settings(*changes))
