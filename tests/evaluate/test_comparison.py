"""Paired differences."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from emocache.cache import EmocacheError
from emocache.evaluate.output.printed_tables import comparison_tables
from emocache.evaluate.report import evaluate_runs
from emocache.evaluate.scoring.ranking.comparison import Comparison, compare
from emocache.evaluate.scoring.result_groups import group
from emocache.evaluate.scoring.stored_runs import discover
from emocache.train.records.group_sums import draw

CLASSES = ("angry", "happy", "sad")


def compared(tmp_path: Path, a: str, b: str, metrics: Sequence[str] = ("all",)) -> list[Comparison]:
    """`a` minus `b` among everything below runs/."""
    # All that a comparison takes of an evaluation is its result, and scoring is slow.
    evaluations: list[Any] = [SimpleNamespace(result=result) for result in group(discover([tmp_path / "runs"]))]
    return compare(evaluations, a, b, metrics)


@pytest.fixture
def random_runs(write_run: Any, utterance: Any) -> Any:
    """Write an experiment of eight folds of five utterances; its hits by utterance, (seeds, 40) bool, come back."""

    def write(experiment: str, chance: float, seeds: int, **fields: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
        hits = np.random.default_rng(int(100 * chance)).random((seeds, 40)) < chance
        for seed in range(seeds):
            for fold in range(8):
                rows = []
                for i in range(5 * fold, 5 * fold + 5):
                    truth = CLASSES[i % 3]
                    rows.append(utterance(f"u{i}", f"s{i // 4}", truth, CLASSES[(i + (not hits[seed, i])) % 3]))
                write_run(rows, experiment=experiment, fold=fold, folds=8, seed=seed, **fields)
        return hits

    return write


def test_the_difference_is_that_of_a_naive_paired_bootstrap(tmp_path: Path, random_runs: Any) -> None:
    a, b = random_runs("bigru", 0.8, 3), random_runs("probe", 0.5, 1)
    (comparison,) = compared(tmp_path, "bigru", "probe")
    difference = comparison.metrics["accuracy"]
    assert (comparison.utterances, comparison.groups, comparison.unit) == (40, 10, "speaker")
    assert difference.difference == pytest.approx(a.mean() - b.mean())
    speakers = sorted({f"s{i // 4}" for i in range(40)})
    resampled = []
    for weights in draw(10):
        drawn = [
            4 * int(s[1:]) + i
            for s, times in zip(speakers, weights, strict=True)
            for _ in range(times)
            for i in range(4)
        ]
        resampled.append(a[:, drawn].mean(axis=1).mean() - b[:, drawn].mean(axis=1).mean())
    assert difference.ci95 == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])))


def test_wilcoxon_is_over_folds_and_corrected_for_all_metrics(tmp_path: Path, random_runs: Any) -> None:
    random_runs("bigru", 0.8, 2), random_runs("probe", 0.5, 1)
    (comparison,) = compared(tmp_path, "bigru", "probe")
    tests = [d.wilcoxon for d in comparison.metrics.values()]
    assert len(tests) == 4 and all(0 < p <= 1 for p in tests)
    smallest = min(comparison.metrics.values(), key=lambda d: d.wilcoxon)
    assert smallest.wilcoxon_holm == pytest.approx(min(1, 4 * smallest.wilcoxon))


def test_an_experiment_is_no_better_than_itself_in_another_setting(tmp_path: Path, random_runs: Any) -> None:
    random_runs("probe", 0.5, 1, setting="aaaaaaaaaaaa")
    random_runs("probe", 0.5, 1, setting="bbbbbbbbbbbb")
    (comparison,) = compared(tmp_path, "probe@a", "probe@b")
    assert comparison.metrics == {} and set(comparison.left_out.values()) == {"both predict the same"}
    (table,) = comparison_tables([comparison])
    assert (
        table.rows == []
        and "accuracy, balanced_accuracy, weighted_f1, macro_f1: left out: both predict the same." in (table.notes)
    )


def exact_p(differences: Sequence[float]) -> float:
    """Two-sided, over every way in which the folds that differ could have had their signs."""
    d = [x for x in np.round(differences, 9) if x]
    ranks = [sum(abs(y) < abs(x) for y in d) + (1 + sum(abs(y) == abs(x) for y in d)) / 2 for x in d]
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in product((0, 1), repeat=len(d))]
    found = sum(r for r, x in zip(ranks, d, strict=True) if x > 0)
    tails = [np.mean([s >= found for s in sums]), np.mean([s <= found for s in sums])]
    return float(min(1.0, 2 * min(tails)))


def naive_holm(p_values: Sequence[float]) -> list[float]:
    """Step down: the k-th smallest is multiplied by how many are not smaller, and is no less than those before it."""
    ranked = sorted(p_values)
    stepped = [min(1.0, p * (len(ranked) - k)) for k, p in enumerate(ranked)]
    return [max(stepped[: ranked.index(p) + 1]) for p in p_values]


def test_the_table_has_difference_interval_raw_p_and_holms(tmp_path: Path, random_runs: Any) -> None:
    """Eight folds with ties and equal folds; p against every possible sign, and against scipy."""
    a, b = random_runs("bigru", 0.8, 3), random_runs("probe", 0.5, 1)
    by_fold = a.mean(axis=0).reshape(8, 5).mean(axis=1) - b.mean(axis=0).reshape(8, 5).mean(axis=1)
    (comparison,) = compared(tmp_path, "bigru", "probe")
    found = comparison.metrics["accuracy"]
    assert found.wilcoxon == pytest.approx(exact_p(by_fold.tolist()))
    assert found.wilcoxon == pytest.approx(wilcoxon(np.round(by_fold, 9)).pvalue)
    p_values = [d.wilcoxon for d in comparison.metrics.values()]
    assert [d.wilcoxon_holm for d in comparison.metrics.values()] == pytest.approx(naive_holm(p_values))
    (table,) = comparison_tables([comparison])
    assert table.headings == ["metric", "difference", "95 % interval", "Wilcoxon's p", "Holm's p"]
    assert table.rows[0] == [
        "accuracy", f"{found.difference:+.3f}", "[{:+.3f}, {:+.3f}]".format(*found.ci95),
        f"{found.wilcoxon:.4f}", f"{found.wilcoxon_holm:.4f}",
    ]  # fmt: skip


def test_the_primary_metric_is_compared_unless_others_are_asked_for(tmp_path: Path, random_runs: Any) -> None:
    for experiment, chance, metric in (("a", 0.8, "macro_f1"), ("b", 0.5, "macro_f1"), ("c", 0.4, "accuracy")):
        random_runs(experiment, chance, 1, selection={"metric": metric})
    for others, asked, metrics in (
        ("b", [], ["macro_f1"]),
        ("c", [], ["accuracy"]),
        ("b", ["balanced_accuracy", "accuracy"], ["accuracy", "balanced_accuracy"]),
        ("b", ["all"], ["accuracy", "balanced_accuracy", "weighted_f1", "macro_f1"]),
    ):
        (comparison,) = compared(tmp_path, "a", others, asked)
        assert list(comparison.metrics) == metrics
    (alone,) = compared(tmp_path, "a", "b", [])
    assert alone.metrics["macro_f1"].wilcoxon == alone.metrics["macro_f1"].wilcoxon_holm
    with pytest.raises(
        EmocacheError, match=r"--metric 'f1': a and b have no such metric in common; they have accuracy, "
    ):
        compared(tmp_path, "a", "b", ["f1"])


@pytest.mark.parametrize(("targets", "told"), [(6, False), (10, True)])
def test_a_p_that_cannot_be_small_is_told(tmp_path: Path, write_run: Any, targets: int, told: bool) -> None:
    """8 folds, all in one direction, have p = 2 / 2^8; with Holm's factor for 10 targets that is .078."""
    names = [f"t{k}" for k in range(targets)]
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(8, 9, targets))
    for experiment, noise in (("good", 0.1), ("bad", 3.0)):
        for fold in range(8):
            rows = []
            for i, values in enumerate(truth[fold]):
                guesses = values + noise * generator.normal(size=targets)
                own = {f"reference.{n}": y for n, y in zip(names, values, strict=True)}
                own |= {f"prediction.{n}": p for n, p in zip(names, guesses, strict=True)}
                rows.append({"id": f"u{fold}-{i}", "speaker": f"s{fold}", "group": f"s{fold}", **own})
            write_run(rows, experiment=experiment, fold=fold, folds=8, task="regression", targets=names, classes=None,
                      prior=dict.fromkeys(names, 0.0))  # fmt: skip
    (comparison,) = compared(tmp_path, "good", "bad", ["rmse"])
    least = 2 / 2**8
    assert [d.wilcoxon for d in comparison.metrics.values()] == pytest.approx([least] * targets)
    assert [d.wilcoxon_holm for d in comparison.metrics.values()] == pytest.approx([targets * least] * targets)
    (table,) = comparison_tables([comparison])
    line = f"8 folds differ, so Wilcoxon's p cannot be below 0.0078, nor Holm's of {targets} tests below"
    assert any(f"{line} {targets * least:.2g}." in note for note in table.notes) is told
    assert any("cannot be below" in note for note in table.notes) is told


def test_a_fold_without_a_target_takes_no_part_in_its_test(tmp_path: Path, write_run: Any) -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(9, 8, 2))
    errors: list[Any] = []
    for experiment, noise in (("good", 0.1), ("bad", 1.0)):
        guesses = truth + noise * generator.normal(size=truth.shape)
        for fold in range(9):
            rows: list[dict[str, Any]] = [
                {"id": f"u{fold}-{i}", "speaker": f"s{fold}", "group": f"s{fold}",
                 "reference.a": None if fold == 3 else y[0], "prediction.a": None if fold == 3 else p[0],
                 "reference.v": y[1], "prediction.v": p[1]}
                for i, (y, p) in enumerate(zip(truth[fold].tolist(), guesses[fold].tolist(), strict=True))
            ]  # fmt: skip
            write_run(rows, experiment=experiment, fold=fold, folds=9, task="regression", targets=["a", "v"],
                      classes=None, prior={"a": 0.0, "v": 0.0})  # fmt: skip
        errors.append(np.sqrt(((guesses - truth) ** 2).mean(axis=1)))
    (comparison,) = compared(tmp_path, "good", "bad", ["rmse"])
    difference = errors[0] - errors[1]
    assert (comparison.metrics["rmse.a"].folds, comparison.metrics["rmse.v"].folds) == (8, 9)
    with_a = np.delete(difference[:, 0], 3)
    assert comparison.metrics["rmse.a"].wilcoxon == pytest.approx(wilcoxon(with_a).pvalue)
    assert comparison.metrics["rmse.v"].wilcoxon == pytest.approx(wilcoxon(difference[:, 1]).pvalue)


def test_only_common_utterances_count(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    for experiment, wrong in (("a", 0), ("b", 1)):
        common = [utterance(f"u{i}", f"s{i}", "sad", "happy" if i == wrong else "sad") for i in range(3)]
        write_run([*common, utterance(experiment, "s0", "sad", "happy")], experiment=experiment, folds=1)
    (comparison,) = compared(tmp_path, "a", "b")
    assert comparison.utterances == 3
    assert comparison.metrics["accuracy"].difference == 0
    assert comparison.metrics["accuracy"].reasons["wilcoxon"] == "the folds are not the same"


def test_streams_are_paired_with_the_same_streams(tmp_path: Path, grid: Any) -> None:
    for experiment, right in (("a", 4), ("b", 3)):
        for name in ("logmel", "mfcc"):
            stream = {"corpus": "demo", "name": name, "fingerprint": "ab" * 32}
            grid(right, experiment=experiment, seeds=[0], streams=[stream])
    pairs = sorted((c.a.streams, c.b.streams) for c in compared(tmp_path, "a", "b"))
    assert pairs == [(["logmel"], ["logmel"]), (["mfcc"], ["mfcc"])]


def test_a_second_target_of_one_side_is_not_compared(tmp_path: Path, write_run: Any, utterance: Any) -> None:
    gender = {"auxiliary.reference.gender": "f", "auxiliary.prediction.gender": "f"}
    rows = [utterance(f"u{i}", f"s{i}", "sad", "sad") for i in range(3)]
    write_run([row | gender for row in rows], experiment="a", folds=1, auxiliary="gender")
    write_run(rows, experiment="b", folds=1)
    (comparison,) = compared(tmp_path, "a", "b")
    assert list(comparison.left_out) == ["accuracy", "balanced_accuracy", "weighted_f1", "macro_f1"]


def test_the_coarser_groups_are_drawn_if_the_others_lie_within_them(
    tmp_path: Path, write_run: Any, utterance: Any
) -> None:
    rows = [utterance(f"u{i}", f"s{i // 2}", "sad", "sad", session=f"d{i // 4}") for i in range(12)]
    write_run(rows, experiment="speakers", folds=1)
    write_run([row | {"group": row["session"]} for row in rows], experiment="sessions", folds=1)
    across = [row | {"group": f"x{i % 4}"} for i, row in enumerate(rows)]
    write_run(across, experiment="dialogues", folds=1, protocol={"name": "random_folds", "resample": "dialogue"})
    for a, b in (("speakers", "sessions"), ("sessions", "speakers")):
        (comparison,) = compared(tmp_path, a, b)
        assert (comparison.groups, comparison.unit) == (3, "session")
    told = "speakers draws speakers and dialogues dialogues, which do not lie within each other; train both with the"
    with pytest.raises(EmocacheError, match=told):
        compared(tmp_path, "speakers", "dialogues")


def test_distributions_are_compared(tmp_path: Path, write_run: Any) -> None:
    for experiment, right in (("a", 0.9), ("b", 0.5)):
        rows = [
            {"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.x": 1.0, "reference.y": 0.0}
            | {"prediction.x": right, "prediction.y": 1 - right}
            for i in range(3)
        ]
        shares = {"task": "distribution", "targets": ["x", "y"], "classes": None, "prior": {"x": 0.6, "y": 0.4}}
        write_run(rows, experiment=experiment, folds=1, **shares)
    (comparison,) = compared(tmp_path, "a", "b")
    assert comparison.metrics["kl_divergence"].difference == pytest.approx(np.log(0.5 / 0.9))
    assert comparison.metrics["rmse.x"].difference == pytest.approx(0.1 - 0.5)


def test_other_streams_are_compared_where_none_are_common(tmp_path: Path, grid: Any) -> None:
    for experiment in ("logmel", "mfcc"):
        stream = {"corpus": "demo", "name": experiment, "fingerprint": "ab" * 32}
        grid(experiment=experiment, seeds=[0], streams=[stream])
    assert len(compared(tmp_path, "logmel", "mfcc")) == 1


def test_what_cannot_be_compared_is_told(tmp_path: Path, grid: Any, write_run: Any, utterance: Any) -> None:
    grid(seeds=[0], experiment="a")
    for rate in (0.1, 0.2):
        grid(seeds=[0], experiment="b", config={"rate": rate})
    grid(seeds=[0], experiment="elsewhere", corpora=["other"])
    write_run([utterance("u00", "s00", "sad", "sad")], experiment="relabelled", folds=1)
    write_run([utterance("u00", "s99", "angry", "sad")], experiment="regrouped", folds=1)
    write_run([utterance("new", "s00", "sad", "sad")], experiment="disjoint", folds=1)
    write_run([{**utterance("new", "s", "", ""), "reference.v": 0.0, "prediction.v": 0.0}], experiment="regression",
              folds=1, task="regression", targets=["v"], classes=None, prior={"v": 0.0})  # fmt: skip
    evaluations = evaluate_runs([tmp_path / "runs"])
    for a, b, told in (
        ("a", "c", "no such result among these runs; there are a, b, "),
        ("a", "a", "a and a are the same result"),
        ("a", "b", "b has 2 settings on demo; name one of b@"),
        ("a", "elsewhere", "a and elsewhere have no results on the same corpus"),
        ("a", "relabelled", "a and relabelled have other references for the same utterances"),
        ("a", "regrouped", "a and regrouped have other speakers for the same utterances"),
        ("a", "disjoint", "a and disjoint have no test utterance in common"),
        ("a", "regression", "a and regression differ in task or targets"),
    ):
        with pytest.raises(EmocacheError, match=re.escape(told)):
            compare(evaluations, a, b)


def test_regressions_are_compared_and_undefined_ones_say_why(tmp_path: Path, write_run: Any) -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=12)
    for experiment, noise in (("good", 0.1), ("dead", 0.0)):
        rows = []
        for i, y in enumerate(truth):
            p = float(y + noise * generator.normal()) if noise else 0.0
            rows.append(
                {"id": f"u{i}", "speaker": f"s{i % 4}", "group": f"s{i % 4}", "reference.v": y, "prediction.v": p}
            )
        write_run(
            rows, experiment=experiment, folds=1, task="regression", targets=["v"], classes=None, prior={"v": 0.0}
        )
    (comparison,) = compared(tmp_path, "good", "dead")
    assert comparison.metrics["ccc.v"].difference > 0.9 and comparison.metrics["ccc.v"].ci95[0] > 0.9
    assert "pearson.v" not in comparison.metrics and comparison.left_out["pearson.v"].startswith("dead_output")
    assert comparison.left_out["reference_std.v"] == "it tells of the references alone"
