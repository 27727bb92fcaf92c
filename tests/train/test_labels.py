"""Labels, votes and tracks of hand-made manifests as references; time-stamped labels on the frame grid and back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from emocache.cache import EmocacheError, Manifest, Track, Utterance
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.data.example import Example, Stamps, on_grid, on_stamps
from emocache.train.data.labels import binarise, labels_of, limit
from emocache.train.fit.train_fold import with_classes
from emocache.train.protocols.folds import Fold, make_folds

if TYPE_CHECKING:
    from .conftest import Toy

STAMPS = Stamps(np.array([0.0, 0.1, 0.2, 0.3]), np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [3.0, 0.0]]))


def test_grid_values_are_interpolated_and_never_extrapolated() -> None:
    centres = np.array([0.05, 0.25, 0.3, 0.39, 0.41, 0.6])
    values, valid = on_grid(STAMPS, centres, delay=0.0)
    assert np.allclose(values[:2], [[0.5, 1.0], [2.5, 0.0]])
    assert valid.tolist() == [True, True, True, True, False, False]  # one period beyond the last stamp, not more


def test_gaps_are_masked() -> None:
    stamps = Stamps(np.array([0.0, 0.1, 0.2, 1.0, 1.1]), np.zeros((5, 1)))
    assert on_grid(stamps, np.array([0.15, 0.29, 0.6, 0.95]), 0.0)[1].tolist() == [True, True, False, True]


def test_one_stamp_counts_everywhere() -> None:
    values, valid = on_grid(Stamps(np.array([0.5]), np.array([[2.0]])), np.array([0.0, 9.0]), 0.0)
    assert values.tolist() == [[2.0], [2.0]] and valid.all()


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_a_perfect_head_is_scored_as_perfect_with_any_delay(delay: float) -> None:
    centres = np.arange(-0.5, 1.0, 0.05)
    targets, _ = on_grid(STAMPS, centres, delay)
    assert np.allclose(on_stamps(targets.astype(np.float64), centres, STAMPS, delay), STAMPS.values)


def test_delay_trains_on_later_labels() -> None:
    assert np.allclose(on_grid(STAMPS, np.array([0.1]), 0.1)[0], [[2.0, 0.0]])


def labelled(*rows: Mapping[str, Any]) -> Manifest:
    """Utterances 0, 1, ... with these labels."""
    return Manifest.from_utterances("toys", [Utterance(str(k), labels=row) for k, row in enumerate(rows)])


def tracked(times: Sequence[float], *rows: Sequence[float] | None, **labels: float) -> Manifest:
    """Utterances 0, 1, ... with the track "valence" at these times, or without."""
    return Manifest.from_utterances(
        "toys",
        [
            Utterance(
                str(k),
                labels=labels,
                tracks={} if row is None else {"valence": Track(np.array(times), np.array(row, np.float64))},
            )
            for k, row in enumerate(rows)
        ],
    )


def found(manifest: Manifest, settings: Settings) -> list[Any]:
    """References as plain Python values."""
    dropped: Counter[str] = Counter()
    return [ref.tolist() if isinstance(ref, np.ndarray) else ref for ref in labels_of(manifest, settings, dropped)]


def test_of_a_track_the_mean_before_the_crop_is_divided(toy: "Toy") -> None:
    manifest = tracked([0.0, 0.5, 1.0], [1, 2, 6], None, [0, 0, 9], valence=7.0)
    threshold = ("targets=valence", "threshold=median")
    assert found(manifest, toy.settings(*threshold)) == [[7.0]] * 3  # the corpus's own label, where nothing is cropped
    assert found(manifest, toy.settings(*threshold, "features.crop_s=1")) == [[1.5], None, [0.0]]
    assert found(manifest, toy.settings(*threshold, "features.crop_s=1.01")) == [[3.0], None, [3.0]]
    assert found(tracked([2.0], [1]), toy.settings(*threshold, "features.crop_s=1")) == [None]
    assert found(tracked([0.0, 0.5], [1, 2]), toy.settings(*threshold)) == [[1.5]]  # there is no label


def test_cropped_tracks_of_a_frame_regression(toy: "Toy") -> None:
    manifest = tracked([0.0, 0.5, 1.0], [1, 2, 6], None)
    kept, absent = labels_of(manifest, toy.frame_settings("features.crop_s=0.8"), Counter())
    assert isinstance(kept, Stamps) and absent is None
    assert kept.times.tolist() == [0.0, 0.5] and kept.values.tolist() == [[1.0], [2.0]]


def test_votes_become_shares_and_rows_without_votes_are_dropped(toy: "Toy") -> None:
    manifest = labelled({"a": 3, "b": 1}, {"a": 0, "b": 0}, {"a": 2}, {"a": 0, "b": 0.5})
    settings = toy.settings("task=distribution", 'targets=["a", "b"]')
    assert found(manifest, settings) == [[0.75, 0.25], None, None, [0.0, 1.0]]
    with pytest.raises(
        EmocacheError, match="toys/1: a target is -1; a distribution needs votes or shares of 0 or more"
    ):
        found(labelled({"a": 1, "b": 1}, {"a": -1, "b": 2}), settings)


def test_numbers_given_as_classes(toy: "Toy") -> None:
    manifest = labelled({"emotion": 1.0}, {"emotion": 10}, {}, {"emotion": 1})
    assert found(manifest, toy.settings()) == ["1", "10", None, "1"]
    assert found(manifest, toy.settings("labels={low=['1'], high=['10']}")) == ["low", "high", None, "low"]
    with pytest.raises(EmocacheError, match="target 'emotion' holds numbers; classification needs text, or set task"):
        found(labelled({"emotion": 1.5}), toy.settings())


def test_label_maps_count_what_they_drop(toy: "Toy") -> None:
    dropped: Counter[str] = Counter()
    manifest = labelled({"emotion": "joy"}, {"emotion": "calm"}, {}, {"emotion": "exc"}, {"emotion": "calm"})
    settings = toy.settings("labels={happy=['joy', 'exc'], sad=['sad']}")
    assert labels_of(manifest, settings, dropped) == ["happy", None, None, "happy", None] and dropped == {"calm": 2}


def test_the_wrong_kind_of_target_is_told(toy: "Toy") -> None:
    with pytest.raises(EmocacheError, match="target 'emotion' holds text; a threshold of it needs numbers"):
        found(labelled({"emotion": "sad"}), toy.settings("threshold=mean"))
    with pytest.raises(EmocacheError, match="target 'valence' is a track; set threshold to divide its means, or task"):
        found(tracked([0.0], [1]), toy.settings("targets=valence"))
    with pytest.raises(EmocacheError, match=r"toys/1: target 'a' is -1e\+300, too large for float32"):
        found(labelled({"a": 1.0}, {"a": -1e300}), toy.settings("task=regression", "targets=a", "loss.kind=mse"))


def test_ties_with_the_limit_are_low() -> None:
    values = np.array([1.0, 2.0, 2.0, 2.0, 5.0, 9.0])
    everyone = np.arange(6)
    assert [limit(values, everyone, how) for how in ("median", "mean", "zero")] == [2.0, 3.5, 0.0]
    assert binarise(values, everyone, "median").tolist() == [0, 0, 0, 0, 1, 1]
    assert binarise(values, everyone, "mean").tolist() == [0, 0, 0, 0, 1, 1]
    assert binarise(values - 2, everyone, "zero").tolist() == [0, 0, 0, 0, 1, 1]
    assert binarise(values, np.array([3, 4]), "median").tolist() == [0, 0, 0, 0, 1, 1]  # 3.5 lies between the two


@pytest.mark.parametrize(
    ("values", "how", "told"),
    [
        ([1.0, 2.0, 2.0, 2.0], "median", r"threshold = 'median' \(2\): every utterance of a training part is low"),
        ([1.0, 2.0, 3.0, 4.0], "zero", r"threshold = 'zero' \(0\): every utterance of a training part is high"),
    ],
)
def test_a_threshold_that_divides_nothing_is_told(values: list[float], how: str, told: str) -> None:
    with pytest.raises(EmocacheError, match=told):
        binarise(np.array(values), np.arange(4), how)


def scored(values: Sequence[float]) -> Dataset:
    """One utterance a value, two a speaker."""
    rows = [
        Example("toys", f"{k:02}", f"s{k // 2}", None, None, None, np.array([value])) for k, value in enumerate(values)
    ]
    return Dataset(rows, (), {}, np.ones(len(rows), bool))


def classes(dataset: Dataset, settings: Settings, fold: Fold) -> list[int]:
    made, _ = with_classes(dataset, settings, fold)
    assert made.classes == ("low", "high")
    return [int(example.reference) for example in made.examples]  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["median", "mean"])
def test_the_threshold_is_that_of_the_training_part(toy: "Toy", how: str) -> None:
    settings = toy.settings("targets=valence", f"threshold={how}")
    values = np.random.default_rng(0).normal(size=12)
    dataset = scored(list(values))
    for fold in make_folds(dataset.examples, settings.protocol):
        boundary = getattr(np, how)([values[row] for row in fold.train])
        assert classes(dataset, settings, fold) == [int(value > boundary) for value in values]
        # Whatever is tested or validates, the training part is divided as before.
        moved = values.copy()
        moved[np.concatenate([fold.valid, fold.test])] += 100
        seen = classes(scored(list(moved)), settings, fold)
        assert [seen[row] for row in fold.train] == [classes(dataset, settings, fold)[row] for row in fold.train]
        assert all(seen[row] for row in (*fold.valid, *fold.test))


def test_a_misspelt_member_beside_a_right_one_is_told(toy: "Toy") -> None:
    toy.cache(toy.corpus())
    right = 'labels={"good" = ["happy", "excited"], "bad" = ["angry", "sad"]}'
    toy.load(toy.settings(right))  # excited is of another corpus
    toy.load(toy.settings('labels={"good" = ["happy"], "bad" = ["sad"]}'))  # angry is left out on purpose
    with pytest.raises(EmocacheError, match=r"labels.bad: no utterance has emotion 'angryy'; did you mean 'angry'"):
        toy.load(toy.settings('labels={"good" = ["happy"], "bad" = ["sad", "angryy"]}'))
