"""Every metric against a few naive lines, and what is undefined."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score, root_mean_squared_error

from emocache.train.records.confusion import Confusion, confusion_counts, row_normalised
from emocache.train.records.metrics import (
    ALL_TIED,
    BOTH_CONSTANT,
    CONSTANT_REFERENCE,
    DEAD_OUTPUT,
    METRICS,
    NO_SAMPLES,
    accuracy,
    balanced_accuracy,
    ccc,
    ccc_per_clip,
    kl_divergence,
    macro_f1,
    metrics_of,
    most_voted_accuracy,
    pearson,
    reference_std,
    rmse,
    spearman,
    weighted_f1,
)
from emocache.train.records.samples import Samples, Values

CLASSES = 5
CLASSIFICATION = (accuracy, balanced_accuracy, weighted_f1, macro_f1)


def naive_f1(reference: list[int], prediction: list[int], one: int) -> float:
    """2 tp / (2 tp + fp + fn), 0 for 0/0."""
    hits = sum(y == p == one for y, p in zip(reference, prediction, strict=True))
    told = reference.count(one) + prediction.count(one)
    return 2 * hits / told if told else 0.0


def naive_classification(reference: list[int], prediction: list[int]) -> dict[str, float]:
    """The four metrics, as spec'd, in loops."""
    pairs = list(zip(reference, prediction, strict=True))
    present = sorted(set(reference))
    recalls = [sum(y == p == c for y, p in pairs) / reference.count(c) for c in present]
    either = sorted(set(reference) | set(prediction))
    return {
        "accuracy": sum(y == p for y, p in pairs) / len(pairs),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "weighted_f1": sum(reference.count(c) / len(pairs) * naive_f1(reference, prediction, c) for c in present),
        "macro_f1": sum(naive_f1(reference, prediction, c) for c in either) / len(either),
    }


@pytest.mark.parametrize("seed", range(8))
def test_classification_metrics_are_their_definitions(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Some classes are absent from the reference, some from the prediction.
    reference = generator.integers(0, CLASSES - 1, 17)
    prediction = generator.integers(1, CLASSES, 17)
    expected = naive_classification(reference.tolist(), prediction.tolist())
    found = {function.__name__: function(reference, prediction).value for function in CLASSIFICATION}
    assert found == pytest.approx(expected)
    counts = confusion_counts(reference, prediction, CLASSES)
    of_counts = Confusion(counts[None].astype(float))
    assert {name: getattr(of_counts, name)[0] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("names", [np.arange(CLASSES), np.array(["a", "b", "b2", "c", ""])])
@pytest.mark.parametrize("count", [1, 2, 400])
def test_classification_metrics_are_those_of_scikit_learn(count: int, names: Values) -> None:
    reference, prediction = names[np.random.default_rng(count).integers(0, CLASSES, (2, count))]
    present = np.unique(reference)
    expected = [
        accuracy_score(reference, prediction),
        recall_score(reference, prediction, labels=present, average="macro"),
        f1_score(reference, prediction, average="weighted", zero_division=0),
        f1_score(reference, prediction, average="macro", zero_division=0),
    ]
    assert [function(reference, prediction).value for function in CLASSIFICATION] == pytest.approx(expected, rel=1e-15)


def test_the_rmse_is_that_of_scikit_learn() -> None:
    reference, prediction = np.random.default_rng(0).normal(size=(2, 301))
    assert rmse(reference, prediction).value == pytest.approx(root_mean_squared_error(reference, prediction), rel=1e-15)


def test_confusion_counts_have_the_true_class_in_rows() -> None:
    counts = confusion_counts(np.array([0, 0, 1]), np.array([1, 1, 1]), 3)
    assert counts.tolist() == [[0, 2, 0], [0, 1, 0], [0, 0, 0]]
    shares = row_normalised(counts)
    assert shares[:2].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert np.isnan(shares[2]).all()


def naive_ranks(values: list[float]) -> list[float]:
    """Average ranks: how many are smaller, plus half of the other equals."""
    return [sum(w < v for w in values) + (1 + sum(w == v for w in values)) / 2 for v in values]


def naive_pearson(y: list[float], p: list[float]) -> float:
    """Covariance over the root of the variances."""
    my, mp = sum(y) / len(y), sum(p) / len(p)
    cov = sum((a - my) * (b - mp) for a, b in zip(y, p, strict=True))
    return float(cov / np.sqrt(sum((a - my) ** 2 for a in y) * sum((b - mp) ** 2 for b in p)))


def naive_ccc(y: list[float], p: list[float]) -> float:
    """With divisor n throughout."""
    n, my, mp = len(y), sum(y) / len(y), sum(p) / len(p)
    cov = sum((a - my) * (b - mp) for a, b in zip(y, p, strict=True)) / n
    var_y, var_p = sum((a - my) ** 2 for a in y) / n, sum((b - mp) ** 2 for b in p) / n
    return 2 * cov / (var_y + var_p + (my - mp) ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_regression_metrics_are_their_definitions(seed: int) -> None:
    generator = np.random.default_rng(seed)
    reference = generator.integers(0, 6, 23) / 5  # with ties
    prediction = np.round(0.6 * reference + generator.normal(0.1, 0.3, 23), 1)
    y, p = reference.tolist(), prediction.tolist()
    squares = [(b - a) ** 2 for a, b in zip(y, p, strict=True)]
    assert rmse(reference, prediction).value == pytest.approx(np.sqrt(sum(squares) / 23))
    assert ccc(reference, prediction).value == pytest.approx(naive_ccc(y, p))
    assert pearson(reference, prediction).value == pytest.approx(naive_pearson(y, p))
    assert spearman(reference, prediction).value == pytest.approx(naive_pearson(naive_ranks(y), naive_ranks(p)))
    mean = sum(y) / 23
    assert reference_std(reference, prediction).value == pytest.approx(np.sqrt(sum((v - mean) ** 2 for v in y) / 23))
    denominator = np.var(reference) + np.var(prediction) + (np.mean(reference) - np.mean(prediction)) ** 2
    assert rmse(reference, prediction).value ** 2 == pytest.approx(denominator * (1 - ccc(reference, prediction).value))


def test_ccc_per_clip_is_the_mean_over_clips() -> None:
    generator = np.random.default_rng(0)
    row = np.repeat([0, 2, 3], [4, 7, 5])  # clip 1 has no samples
    reference, prediction = generator.normal(size=(2, 16))
    clips = [naive_ccc(reference[row == r].tolist(), prediction[row == r].tolist()) for r in (0, 2, 3)]
    samples = Samples(reference, prediction, row, "frame_regression")
    assert ccc_per_clip(samples).value == pytest.approx(sum(clips) / 3)
    # A clip in which everything is constant and equal says nothing, and is left out.
    reference[row == 2] = prediction[row == 2] = 0.25
    assert ccc_per_clip(samples).value == pytest.approx((clips[0] + clips[2]) / 2)


VARIED, FLAT = np.array([0.1, 0.4, 0.2]), np.array([0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (VARIED, FLAT, {"ccc": 0.0, "pearson": DEAD_OUTPUT, "spearman": DEAD_OUTPUT}),
        (FLAT, VARIED, {"ccc": 0.0, "pearson": CONSTANT_REFERENCE, "spearman": CONSTANT_REFERENCE}),
        (FLAT, FLAT + 1, {"ccc": 0.0, "pearson": CONSTANT_REFERENCE, "rmse": 1.0}),
        (FLAT, FLAT, {"ccc": BOTH_CONSTANT, "pearson": CONSTANT_REFERENCE, "rmse": 0.0}),
        (FLAT[:0], FLAT[:0], {"ccc": NO_SAMPLES, "spearman": NO_SAMPLES, "rmse": NO_SAMPLES}),
        (VARIED[:1], VARIED[1:2], {"ccc": 0.0, "spearman": CONSTANT_REFERENCE}),
    ],
)
def test_what_is_undefined_says_why(reference: Values, prediction: Values, expected: dict[str, float | str]) -> None:
    samples = Samples(reference, prediction, np.arange(len(reference)), "regression")
    for name, value in expected.items():
        score = METRICS[name].score(samples)
        if isinstance(value, str):
            assert np.isnan(score.value) and score.reason == value
        else:
            assert score.value == pytest.approx(value) and not score.reason


def test_predictions_that_are_not_finite_are_undefined_everywhere() -> None:
    samples = Samples(VARIED, np.array([np.nan, 0.1, np.inf]), np.arange(3), "frame_regression")
    for name, metric in metrics_of("frame_regression").items():
        score = metric.score(samples)
        if name != "reference_std":
            assert np.isnan(score.value) and score.reason == "the prediction is not finite in 2 of 3 samples", name


def test_no_samples_of_a_classification() -> None:
    empty = np.empty(0, np.int64)
    for metric in metrics_of("classification").values():
        assert metric.score(Samples(empty, empty, empty, "classification")).reason == NO_SAMPLES
    assert confusion_counts(empty, empty, 2).tolist() == [[0, 0], [0, 0]]


def test_a_classification_by_hand() -> None:
    # True class 0: right twice, once taken for 1; class 1: right once, once taken for 2, which nobody is.
    reference, prediction = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])
    assert accuracy(reference, prediction).value == pytest.approx(3 / 5)
    assert balanced_accuracy(reference, prediction).value == pytest.approx((2 / 3 + 1 / 2) / 2)
    # F1 of 0: 4 / (3 + 2); of 1: 2 / (2 + 2); of 2: 0 / (0 + 1).
    assert weighted_f1(reference, prediction).value == pytest.approx(3 / 5 * 4 / 5 + 2 / 5 * 1 / 2)
    assert macro_f1(reference, prediction).value == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize(("prediction", "expected"), [([0], 1.0), ([1], 0.0)])
def test_a_classification_of_one_utterance(prediction: list[int], expected: float) -> None:
    samples = Samples(np.array([0]), np.array(prediction), np.array([0]), "classification")
    assert [metric.score(samples).value for metric in metrics_of("classification").values()] == [expected] * 4


def test_a_constant_class_by_hand() -> None:
    reference, prediction = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    samples = Samples(reference, prediction, np.arange(4), "classification")
    found = {name: metric.score(samples).value for name, metric in metrics_of("classification").items()}
    # F1 of 0: 6 / (3 + 4).
    expected = {"accuracy": 3 / 4, "balanced_accuracy": 1 / 2, "weighted_f1": 3 / 4 * 6 / 7, "macro_f1": 3 / 7}
    assert found == pytest.approx(expected)


def test_a_regression_by_hand() -> None:
    # Means 2 and 3, variances 2/3 and 2, covariance 1.
    reference, prediction = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0])
    assert ccc(reference, prediction).value == pytest.approx(2 / (2 / 3 + 2 + 1))
    assert pearson(reference, prediction).value == pytest.approx(1 / np.sqrt(2 / 3 * 2))
    # Ranks 1 2 3 and, of the tie, 1.5 1.5 3.
    assert spearman(reference, prediction).value == pytest.approx(1.5 / np.sqrt(2 * 1.5))
    assert rmse(reference, prediction).value == pytest.approx(np.sqrt(5 / 3))
    assert reference_std(reference, prediction).value == pytest.approx(np.sqrt(2 / 3))


def test_ccc_per_clip_of_constant_clips_only() -> None:
    samples = Samples(np.full(4, 0.5), np.full(4, 0.5), np.array([0, 0, 1, 1]), "frame_regression")
    assert ccc_per_clip(samples).reason == f"{BOTH_CONSTANT} in every clip"


def shares(reference: list[list[float]], prediction: list[list[float]]) -> Samples:
    """Samples of a distribution."""
    return Samples(np.array(reference), np.array(prediction), np.arange(len(reference)), "distribution")


def test_a_distribution_by_hand() -> None:
    votes = [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]
    guess = [[0.25, 0.25, 0.5], [0.5, 0.3, 0.2], [0.5, 0.25, 0.25]]
    samples = shares(votes, guess)
    divergences = [np.log(2), np.log(2), 0.25 * np.log(0.5) + 0.5 * np.log(2)]
    assert METRICS["kl_divergence"].score(samples).value == pytest.approx(sum(divergences) / 3)
    # The votes of the first are tied; the second is right, the third wrong.
    found = most_voted_accuracy(samples)
    assert found.value == 0.5
    assert found.note == "1 of 3 utterances left out: their most voted class is tied"
    assert kl_divergence(samples.reference, samples.reference).value == 0.0


def test_what_is_undefined_of_a_distribution() -> None:
    tied = most_voted_accuracy(shares([[0.5, 0.5]], [[0.9, 0.1]]))
    assert np.isnan(tied.value) and tied.reason == ALL_TIED
    impossible = METRICS["kl_divergence"].score(shares([[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]))
    assert np.isnan(impossible.value)
    assert impossible.reason == "infinite in 1 of 2 utterances: a class with votes is predicted as 0"
    for metric in metrics_of("distribution").values():
        broken = metric.score(shares([[1.0, 0.0], [0.5, 0.5]], [[np.nan, np.nan], [0.5, 0.5]]))
        assert broken.reason == "the prediction is not finite in 1 of 2 samples"
        none = Samples(np.zeros((0, 2)), np.zeros((0, 2)), np.empty(0, np.int64), "distribution")
        assert metric.score(none).reason == NO_SAMPLES


def test_a_second_target_is_scored_by_name() -> None:
    who = Samples(np.array(["f", "f", "m"]), np.array(["f", "m", "m"]), np.arange(3), "auxiliary")
    found = {name: metric.score(who).value for name, metric in metrics_of("auxiliary").items()}
    assert found == pytest.approx({"auxiliary_accuracy": 2 / 3, "auxiliary_balanced_accuracy": 3 / 4})
