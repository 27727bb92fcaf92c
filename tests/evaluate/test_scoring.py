"""Whole results from hand-made runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from emocache.cache import EmocacheError
from emocache.evaluate.output.documents import document, to_json
from emocache.evaluate.output.printed_tables import result_tables
from emocache.evaluate.report import evaluate_runs
from emocache.evaluate.scoring.ranking.comparison import compare
from emocache.evaluate.scoring.scored import Evaluation
from emocache.train.records.metrics import METRICS, Metric, Score, metrics_of
from emocache.train.records.samples import Samples


def only(tmp_path: Path) -> Evaluation:
    """The one result below runs/."""
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    return evaluation


def test_a_classification(tmp_path: Path, grid: Any) -> None:
    # Right: 3 and 6 of six with seed 0, 3 and 4 with seed 1.
    grid(lambda fold, seed: 3 if fold == 0 else 6 - 2 * seed)
    evaluation = only(tmp_path)
    summary = evaluation.metrics["accuracy"]
    assert summary.mean == pytest.approx((3 / 6 + 5 / 6) / 2)
    assert summary.std == pytest.approx(1 / 6)
    assert summary.std_seeds == pytest.approx((9 / 12 - 7 / 12) / 2)
    assert summary.pooled == pytest.approx((9 / 12 + 7 / 12) / 2)
    assert summary.ci95[0] < summary.pooled < summary.ci95[1]
    assert (evaluation.groups, evaluation.unit, evaluation.approximate) == (6, "speaker", True)
    assert evaluation.confusion is not None and evaluation.confusion.sum() == 24
    assert np.trace(evaluation.confusion) == 3 + 3 + 6 + 4


def test_the_sanity_rows_of_a_classification(tmp_path: Path, grid: Any) -> None:
    grid()
    sanity = only(tmp_path).sanity
    assert list(sanity) == ["majority", "uniform"]
    # The training part's majority is happy, a third of the test part.
    assert sanity["majority"]["accuracy"].mean == pytest.approx(1 / 3)
    assert sanity["majority"]["macro_f1"].mean == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1) / 3)
    assert sanity["uniform"]["accuracy"].pooled == pytest.approx(1 / 3)
    assert sanity["uniform"]["balanced_accuracy"].pooled == pytest.approx(1 / 3)


def test_uniform_is_the_expectation_of_uniform_guesses(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    truths = ["angry"] * 150 + ["happy"] * 90 + ["sad"] * 60
    rows = [utterance(f"u{i}", f"s{i % 7}", truth, "sad") for i, truth in enumerate(truths)]
    write_run(rows, folds=1)
    sanity = only(tmp_path).sanity["uniform"]
    generator = np.random.default_rng(0)
    reference = np.repeat([0, 1, 2], [150, 90, 60])
    for name in metrics_of("classification"):
        guesses = generator.integers(0, 3, (200, 300))
        draws = [METRICS[name].score(Samples(reference, guess, reference, "classification")) for guess in guesses]
        assert sanity[name].mean == pytest.approx(np.mean([score.value for score in draws]), abs=0.01), name


def test_missing_utterances_count_in_the_scores(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    rows = [utterance("a", "s1", "sad", "sad"), utterance("b", "s2", "sad", "happy", missing=True)]
    write_run(rows, folds=1)
    evaluation = only(tmp_path)
    assert evaluation.metrics["accuracy"].pooled == 0.5
    assert evaluation.result.coverage.model_dump() == {"test": 2, "predicted": 1, "missing": ("b",), "enrolled": 0}


def test_validation_rows_do_not_count(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    write_run([utterance("a", "s", "sad", "sad"), utterance("b", "t", "sad", "happy", part="valid")], folds=1)
    evaluation = only(tmp_path)
    assert evaluation.metrics["accuracy"].mean == 1.0 and evaluation.groups == 1
    assert evaluation.metrics["accuracy"].reasons["ci95"] == "a bootstrap needs at least two groups"


def test_groups_of_two_corpora_are_not_confused(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    rows = [utterance("a", "s", "sad", "sad"), utterance("a", "s", "sad", "sad", corpus="other")]
    write_run(rows, corpora=["demo", "other"], folds=1)
    evaluation = only(tmp_path)
    assert evaluation.groups == 2 and evaluation.result.corpus == "demo+other"


REGRESSION = {
    "task": "regression",
    "targets": ["valence", "arousal"],
    "classes": None,
    "prior": {"valence": 0.5, "arousal": -0.25},
    "folds": 1,
}


def test_a_regression_scores_every_target(tmp_path: Path, write_run: Any) -> None:
    rows = []
    for i, (y, p) in enumerate([(0.0, 0.1), (1.0, 0.8), (0.5, 0.7), (0.25, 0.0)]):
        values = {"reference.valence": y, "prediction.valence": p, "reference.arousal": -y, "prediction.arousal": 0.0}
        rows.append({"id": f"u{i}", "speaker": None, "group": f"u{i}", **values})
    write_run(rows, **REGRESSION)
    evaluation = only(tmp_path)
    names = ["ccc", "pearson", "spearman", "rmse", "reference_std"]
    assert list(evaluation.metrics) == [f"{name}.{target}" for target in ("valence", "arousal") for name in names]
    assert evaluation.metrics["rmse.valence"].mean == pytest.approx(np.sqrt((0.01 + 0.04 + 0.04 + 0.0625) / 4))
    assert evaluation.metrics["ccc.arousal"].mean == 0.0
    assert evaluation.metrics["pearson.arousal"].reasons["mean"].startswith("dead_output")
    assert evaluation.confusion is None and evaluation.unit == "utterance"
    guess = evaluation.sanity["training_mean"]
    assert guess["rmse.valence"].mean == pytest.approx(np.sqrt(np.mean([0.25, 0.25, 0.0, 0.0625])))
    assert guess["ccc.valence"].mean == 0.0


FRAMES = REGRESSION | {"task": "frame_regression", "targets": ["valence"]}


def test_a_frame_regression_has_the_ccc_of_clips(tmp_path: Path, write_run: Any) -> None:
    rows = []
    for i, (y, p) in enumerate([([0.0, 1.0], [0.0, 1.0]), ([0.0, 1.0, 0.5], [1.0, 0.0, 0.5])]):
        rows.append(
            {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.valence": y, "prediction.valence": p}
        )
    write_run(rows, **FRAMES)
    evaluation = only(tmp_path)
    assert evaluation.metrics["ccc_per_clip.valence"].mean == pytest.approx((1 - 1) / 2)
    assert evaluation.metrics["ccc_per_clip.valence"].ci95 == pytest.approx((-1, 1))
    # Nothing is known before a clip's first label: the training mean, 0.5, stands for it.
    persistence = evaluation.sanity["persistence"]["rmse.valence"]
    assert persistence.mean == pytest.approx(np.sqrt(np.mean([0.25, 1.0, 0.25, 1.0, 0.25])))


def test_persistence_takes_the_last_label_there_is(tmp_path: Path, write_run: Any) -> None:
    values = {"reference.valence": [0.0, None, 1.0, 0.0], "prediction.valence": [0.0] * 4}
    write_run([{"id": "a", "speaker": "s", "group": "s", **values}], **FRAMES)
    found = only(tmp_path).sanity["persistence"]["rmse.valence"]
    assert found.mean == pytest.approx(np.sqrt(np.mean([0.25, 1.0, 1.0])))


def test_a_test_part_without_any_label_is_undefined(tmp_path: Path, write_run: Any) -> None:
    values = {"reference.valence": [None, None], "prediction.valence": [0.1, 0.2]}
    write_run([{"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", **values} for i in range(2)], **FRAMES)
    evaluation = only(tmp_path)
    for metrics in (evaluation.metrics, *evaluation.sanity.values()):
        for name, summary in metrics.items():
            assert np.isnan(summary.pooled) and summary.reasons["pooled"] == "seed 0: no test samples", name


def test_uniform_guesses_on_iemocap(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    # The seven classes of paper 3, whose row "Random" prints .138 .135 .151 .126.
    counts = {"ang": 1103, "exc": 1041, "hap": 595, "sad": 1084, "fru": 1849, "sur": 107, "neu": 1708}
    names = [name for name, count in counts.items() for _ in range(count)]
    rows = [utterance(f"u{i}", "s", name, "ang") for i, name in enumerate(names)]
    write_run(rows, folds=1, classes=list(counts), prior={name: n / 7487 for name, n in counts.items()})
    found = {name: summary.mean for name, summary in only(tmp_path).sanity["uniform"].items()}
    # The means of many draws for a fold of 749.
    expected = {"accuracy": 0.143, "balanced_accuracy": 0.142, "weighted_f1": 0.155, "macro_f1": 0.130}
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_second_target_is_scored_where_it_is_known(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    rows = []
    known = [("f", "f"), ("f", "m"), ("m", "m"), (None, "m"), ("m", None)]
    for i, (truth, guess) in enumerate(known):
        gender = {"auxiliary.reference.gender": truth, "auxiliary.prediction.gender": guess}
        rows.append(utterance(f"u{i}", f"s{i}", "sad", "sad", **gender, missing=guess is None))
    for seed in (0, 1):
        write_run(rows, folds=1, seed=seed, auxiliary="gender")
    metrics = only(tmp_path).metrics
    assert metrics["accuracy"].pooled == 1.0
    assert metrics["auxiliary_accuracy"].pooled == pytest.approx(2 / 3)
    assert metrics["auxiliary_balanced_accuracy"].pooled == pytest.approx(3 / 4)
    assert metrics["auxiliary_accuracy"].notes[0] == "2 of 5 utterances left out"
    low, high = metrics["auxiliary_accuracy"].ci95
    assert 0 <= low < 2 / 3 < high <= 1
    assert "auxiliary_accuracy" not in only(tmp_path).sanity["majority"]


def test_a_distribution_is_scored_by_class_and_as_a_whole(tmp_path: Path, write_run: Any) -> None:
    votes = [(0.5, 0.5), (1.0, 0.0), (0.25, 0.75), (0.25, 0.75)]
    guesses = [(0.25, 0.75), (0.5, 0.5), (0.5, 0.5), (0.1, 0.9)]
    rows = []
    for i, ((ra, rb), (pa, pb)) in enumerate(zip(votes, guesses, strict=True)):
        values = {"reference.a": ra, "reference.b": rb, "prediction.a": pa, "prediction.b": pb}
        rows.append({"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", **values})
    fields = {"task": "distribution", "targets": ["a", "b"], "classes": None, "prior": {"a": 0.4, "b": 0.6}}
    write_run(rows, folds=1, **fields)
    evaluation = only(tmp_path)
    of_classes = ["ccc", "pearson", "spearman", "rmse", "reference_std"]
    whole = ["kl_divergence", "most_voted_accuracy"]
    assert list(evaluation.metrics) == [f"{name}.{c}" for c in ("a", "b") for name in of_classes] + whole
    assert evaluation.metrics["rmse.a"].pooled == pytest.approx(np.sqrt(np.mean([1 / 16, 1 / 4, 1 / 16, 0.0225])))
    pairs = zip(votes, guesses, strict=True)
    divergence = [sum(r * np.log(r / p) for r, p in zip(y, g, strict=True) if r) for y, g in pairs]
    assert evaluation.metrics["kl_divergence"].pooled == pytest.approx(np.mean(divergence))
    # The first has no most voted class; of the guesses that are even the first class counts.
    found = evaluation.metrics["most_voted_accuracy"]
    assert found.pooled == pytest.approx(2 / 3)
    assert found.notes[0] == "1 of 4 utterances left out: their most voted class is tied"
    guess = evaluation.sanity["training_mean"]
    expected = [sum(r * np.log(r / p) for r, p in zip(y, (0.4, 0.6), strict=True) if r) for y in votes]
    assert guess["kl_divergence"].pooled == pytest.approx(np.mean(expected))
    assert guess["rmse.b"].pooled == pytest.approx(np.sqrt(np.mean([(y[1] - 0.6) ** 2 for y in votes])))
    entropy = [sum(r * np.log(r * 2) for r in y if r) for y in votes]
    assert evaluation.sanity["uniform"]["kl_divergence"].pooled == pytest.approx(np.mean(entropy))


def test_a_metric_is_added_in_one_place(
    tmp_path: Path, write_run: Any, utterance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One entry of METRICS has its column, an interval over 30 speakers, and a line in --compare."""

    def kappa(samples: Samples) -> Score:
        y, p = (
            np.bincount(values, minlength=3) / len(samples.row) for values in (samples.reference, samples.prediction)
        )
        return Score((np.mean(samples.reference == samples.prediction) - y @ p) / (1 - y @ p))

    monkeypatch.setitem(METRICS, "kappa", Metric("Cohen's kappa", kappa, ("classification",)))
    random = np.random.default_rng(0)
    truth = random.choice(["angry", "happy", "sad"], 120)
    for experiment, chance in (("good", 0.8), ("bad", 0.4)):
        right = random.random(120) < chance
        guess = np.where(right, truth, random.choice(["angry", "happy", "sad"], 120))
        rows = [utterance(f"u{i}", f"s{i // 4}", str(truth[i]), str(guess[i])) for i in range(120)]
        write_run(rows, experiment=experiment, folds=1)
    evaluations = evaluate_runs([tmp_path / "runs"])
    expected, good = cohen_kappa_score(truth, guess), evaluations[1].metrics["kappa"]
    assert evaluations[0].metrics["kappa"].pooled == pytest.approx(expected)
    assert good.ci95[0] < good.pooled < good.ci95[1] and "ci95" not in good.reasons
    pooled = result_tables(evaluations)[1]
    cell = pooled.rows[0][pooled.headings.index("Cohen's kappa")]
    assert cell.startswith(f"{expected:.3f} [")
    (comparison,) = compare(evaluations, "good", "bad", ["kappa"])
    found = comparison.metrics["kappa"]
    assert found.difference == pytest.approx(good.pooled - expected)
    assert found.ci95[0] < found.difference < found.ci95[1]
    assert json.loads(to_json(document(evaluations, [comparison])))["comparisons"][0]["metrics"]["kappa"]["ci95"]


def test_an_utterance_may_lack_a_track(tmp_path: Path, write_run: Any) -> None:
    """Where targets are trained apart: null for the reference, whatever is predicted."""
    rows = [
        {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}",
         **{f"reference.{t}": None if lacks else [0.0, 1.0, 2.0] for t, lacks in (("v", i == 1), ("a", i > 1))},
         "prediction.v": [0.0, 1.0, 2.0], "prediction.a": [0.0, 1.0, 2.0] if i < 2 else None}
        for i in range(4)
    ]  # fmt: skip
    own = {"task": "frame_regression", "targets": ["v", "a"], "classes": None, "prior": {"v": 0.0, "a": 0.0}}
    write_run(rows, folds=1, **own)
    metrics = only(tmp_path).metrics
    assert metrics["ccc.v"].pooled == metrics["ccc.a"].pooled == 1.0
    rows[0]["prediction.v"] = None
    write_run(rows, folds=1, experiment="broken", **own)
    with pytest.raises(EmocacheError, match="row 0 of the test part has 3 references but 0 predictions"):
        evaluate_runs([tmp_path / "runs"])


def test_a_prediction_beyond_measure_is_undefined(tmp_path: Path, write_run: Any) -> None:
    rows = [
        {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.v": float(i), "prediction.v": i * 1e200}
        for i in range(4)
    ]
    write_run(rows, folds=1, task="regression", targets=["v"], classes=None, prior={"v": 0.0})
    metrics = only(tmp_path).metrics
    for name in ("ccc.v", "pearson.v", "rmse.v"):
        assert np.isnan(metrics[name].pooled)
        assert metrics[name].reasons["pooled"] == "seed 0: the prediction is too large to compute with"
