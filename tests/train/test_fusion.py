"""Late fusion against loops over single utterances, and as experiments on a cache."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emocache.cache import Cache, EmocacheError
from emocache.evaluate.papers.emotion_share import pairs
from emocache.evaluate.report import evaluate_runs
from emocache.evaluate.scoring.result_groups import group
from emocache.evaluate.scoring.scored import evaluate_result
from emocache.evaluate.scoring.stored_runs import discover
from emocache.train.config.loading import load_experiment
from emocache.train.records.columns import Columns
from emocache.train.records.metrics import ccc
from emocache.train.run.crew import Crew
from emocache.train.run.fusion import Aligned, align, fit_weights, fused_score, fused_table, majority, weighted
from emocache.train.run.fusion_plan import FusionPlan
from emocache.train.run.request import Request, carry_out

from .conftest import EXPERIMENT, FRAME_EXPERIMENT

if TYPE_CHECKING:
    from .conftest import Toy

CLASSES = ("a", "b", "c")
CLASSIFICATION = Columns("classification", CLASSES)
FRAMES = Columns("frame_regression", ("valence",))


def row(id_: str, missing: bool = False, **values: Any) -> dict[str, Any]:
    known = dict.fromkeys(("speaker", "session", "culture", "gender"), "x")
    return {"corpus": "toys", "id": id_, **known, "group": "x", "missing": missing, **values}


def guess(id_: str, shares: Any, missing: bool = False, reference: str = "a") -> dict[str, Any]:
    return row(
        id_, missing, reference=reference, **{f"prob.{c}": float(p) for c, p in zip(CLASSES, shares, strict=True)}
    )


def put(*members: list[dict[str, Any]], columns: Columns = CLASSIFICATION) -> Aligned:
    tables = [pa.Table.from_pylist(rows) for rows in members]
    return align(tables, [f"m{k}" for k in range(len(tables))], columns)


def random_members(members: int, rows: int) -> list[list[dict[str, Any]]]:
    """Each member misses some rows, marked or not there at all; no row is missed by all."""
    rng = np.random.default_rng(0)
    tables = []
    for m in range(members):
        table = []
        for k in range(rows):
            missing = k % members != m and rng.random() < 0.4
            if not missing or rng.random() < 0.5:
                table.append(guess(f"u{k}", rng.dirichlet(np.ones(3)), missing, CLASSES[k % 3]))
        tables.append([table[i] for i in rng.permutation(len(table))])
    return tables


def of(rows: list[dict[str, Any]], id_: str) -> np.ndarray[Any, Any] | None:
    """A member's probabilities of one utterance where it has features."""
    found = [r for r in rows if r["id"] == id_ and not r["missing"]]
    return np.array([found[0][f"prob.{c}"] for c in CLASSES]) if found else None


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.2, 0.5, 0.3), (0.0, 1.0, 0.0)])
def test_weighted_mean_of_the_members_that_are_there(weights: tuple[float, ...]) -> None:
    members = random_members(3, 60)
    aligned = put(*members)
    fused = weighted(aligned, weights)
    for id_, found in zip(aligned.rows["id"].to_pylist(), fused, strict=True):
        there = [(w, p) for w, rows in zip(weights, members, strict=True) if (p := of(rows, id_)) is not None]
        if not sum(w for w, _ in there):
            there = [(1.0, p) for _, p in there]
        expected = sum(w * p for w, p in there) / sum(w for w, _ in there)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not aligned.missing.any() and len(fused) == 60


def test_vote_is_the_majority_and_ties_go_to_the_mean_probability() -> None:
    members = random_members(4, 200)
    aligned = put(*members)
    ties = 0
    for id_, found in zip(aligned.rows["id"].to_pylist(), majority(aligned), strict=True):
        there = [p for rows in members if (p := of(rows, id_)) is not None]
        counts = [sum(int(p.argmax()) == c for p in there) for c in range(3)]
        best = [c for c in range(3) if counts[c] == max(counts)]
        ties += len(best) > 1
        mean = np.mean(there, axis=0)
        assert found.argmax() == max(best, key=lambda c: mean[c])
        assert found.sum() == pytest.approx(1)
    assert ties > 20
    two_to_one = put(*([guess("u", p)] for p in ([0.4, 0.35, 0.25], [0.4, 0.35, 0.25], [0.0, 1.0, 0.0])))
    assert majority(two_to_one)[0].argmax() == 0 and weighted(two_to_one, [1, 1, 1])[0].argmax() == 1


def test_a_row_that_all_members_miss_keeps_the_prior() -> None:
    prior = [0.2, 0.5, 0.3]
    aligned = put([guess("u", prior, True), guess("v", [1, 0, 0])], [guess("v", [0, 0, 1]), guess("u", prior, True)])
    for fused in (weighted(aligned, [0.9, 0.1]), majority(aligned)):
        table = fused_table("test", aligned, fused).to_pylist()
        assert [(r["id"], r["missing"]) for r in table] == [("u", True), ("v", False)]
        assert [table[0][f"prob.{c}"] for c in CLASSES] == pytest.approx(prior) and table[0]["prediction"] == "b"


def test_frames_are_fused_stamp_by_stamp() -> None:
    """A member that has nothing at a stamp leaves it to the other; where neither has anything both count."""
    lengths = [3, 1, 4, 9]
    stamps = {f"u{k}": np.arange(n) * 0.1 for k, n in enumerate(lengths)}

    def member(seed: int, lacks: str) -> list[dict[str, Any]]:
        rng = np.random.default_rng(seed)
        return [row(i, i == lacks, times=t.tolist(), **{"reference.valence": (t * 2).tolist(),
                    "prediction.valence": rng.normal(size=len(t)).tolist(),
                    "present": (i != lacks) & (rng.random(len(t)) < 0.6)}) for i, t in stamps.items()]  # fmt: skip

    one, two = member(0, "u0"), member(1, "u2")[::-1]
    aligned = put(one, two, columns=FRAMES)
    table = fused_table("test", aligned, weighted(aligned, [0.6, 0.4]))
    for number, found in enumerate(table.to_pylist()):
        a, b = one[number], next(r for r in two if r["id"] == found["id"])
        for k, fused in enumerate(found["prediction.valence"]):
            x, y = (member["prediction.valence"][k] for member in (a, b))
            alone = {(True, False): x, (False, True): y}.get((bool(a["present"][k]), bool(b["present"][k])))
            neither = {"u0": y, "u2": x}.get(found["id"], 0.6 * x + 0.4 * y)
            assert fused == pytest.approx(neither if alone is None else alone)
        assert found["times"] == one[number]["times"] and found["reference.valence"] == one[number]["reference.valence"]


def framewise(id_: str, values: Any, present: Any, missing: bool = False, **changes: Any) -> dict[str, Any]:
    """Stamps every tenth of a second whose reference is the time."""
    times = [k / 10 for k in range(len(present))]
    known = {"times": times, "reference.valence": times, "prediction.valence": values, "present": present}
    return row(id_, missing, **{**known, **changes})


def test_what_was_fused_can_be_fused_again() -> None:
    """Seeds first, then members, as `over_seeds` does; a stamp, or an utterance, that one seed lacks is the others'."""
    seeds = [
        [framewise("u", [1.0, 2.0, 3.0], [True, True, False]), framewise("v", [0.5], [False], missing=True)],
        [framewise("u", [3.0, 4.0, 5.0], [True, False, False])],
        [framewise("v", [0.9], [True]), framewise("u", [9.0, 9.0, 9.0], [False] * 3, missing=True)],
    ]
    own = put(*seeds, columns=FRAMES)
    mean = fused_table("test", own, weighted(own, [1.0] * 3))
    assert mean.drop_columns("part").to_pylist() == [
        framewise("u", [2.0, 2.0, 4.0], [True, True, False]), framewise("v", [0.9], [True])
    ]  # fmt: skip
    other = [framewise("v", [0.1], [True]), framewise("u", [0.0, 0.0, 0.0], [False, True, True])]
    both = align([mean, pa.Table.from_pylist(other)], ["seeds", "other"], FRAMES)
    fused = fused_table("test", both, weighted(both, [0.5, 0.5])).to_pylist()
    assert [r["prediction.valence"] for r in fused] == [[2.0, 1.0, 0.0], pytest.approx([0.5])]


def test_an_utterance_may_lack_a_target() -> None:
    """Null, or NaN, in references and predictions alike; a member of no weight does not spoil the others with it."""
    columns = Columns("regression", ("valence", "arousal"))
    rng = np.random.default_rng(0)

    def member(seed: int, nothing: float | None) -> list[dict[str, Any]]:
        noise = np.random.default_rng(seed).normal(size=(30, 2))
        rows = []
        for k, (y, z) in enumerate(truth):
            lacks = k % 5 == 0
            rows.append(row(f"u{k}", **{"reference.valence": y, "reference.arousal": nothing if lacks else z,
                                        "prediction.valence": y + noise[k, 0],
                                        "prediction.arousal": nothing if lacks else z + noise[k, 1]}))  # fmt: skip
        return rows

    truth = rng.normal(size=(30, 2))
    members = [member(1, None), member(2, float("nan"))]
    aligned = put(*members, columns=columns)
    fused = weighted(aligned, [0.5, 0.5])
    known = np.arange(30) % 5 != 0
    y, z = (np.mean([[r[f"prediction.{t}"] for r in m] for m in members], axis=0, dtype=float) for t in columns.names)
    expected = np.mean([ccc(truth[:, 0], y).value, ccc(truth[known, 1], z[known]).value])
    assert fused_score(aligned, fused, "ccc").metric == pytest.approx(expected)
    broken = [{**r, "prediction.valence": float("nan")} for r in members[1]]
    assert weighted(put(members[0], broken, columns=columns), [1, 0])[:, 0] == pytest.approx(
        [r["prediction.valence"] for r in members[0]]
    )
    tracks: dict[str, Any] = {"reference.valence": None, "prediction.valence": None}
    nulls = [framewise("u", [1.0, 2.0], [True, True]), framewise("v", None, [True], **tracks)]
    both = put(nulls, nulls[::-1], columns=FRAMES)
    fused = weighted(both, [0.5, 0.5])
    assert fused[:, 0] == pytest.approx([1.0, 2.0, np.nan], nan_ok=True)
    assert fused_table("test", both, fused)["prediction.valence"].to_pylist() == [[1.0, 2.0], [None]]
    with pytest.raises(EmocacheError, match=r"'m1' has another reference\.valence of toys/v than the others"):
        put(nulls, [framewise("v", [0.0], [True])], columns=FRAMES)


def test_weights_fitted_are_the_best_tenths() -> None:
    """Against a loop over equal weights and all tenths; and they find the member that is right."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 1))
    columns = Columns("regression", ("valence",))

    def member(noise: float) -> list[dict[str, Any]]:
        rows = []
        for k, (y,) in enumerate(truth):
            values: dict[str, Any] = {"reference.valence": y, "prediction.valence": y + rng.normal() * noise}
            rows.append(row(f"u{k}", **values))
        return rows

    aligned = put(member(0.5), member(0.4), member(3.0), columns=columns)
    weights, best = fit_weights(aligned, "ccc")
    tenths = [(a / 10, b / 10, (10 - a - b) / 10) for a in range(11) for b in range(11 - a)]
    scores = [fused_score(aligned, weighted(aligned, w), "ccc") for w in [(1 / 3,) * 3, *tenths]]
    assert best == max(scores) and sum(weights) == pytest.approx(1)
    assert weights[1] > weights[0] > weights[2]
    same = put(member(0.0), member(0.0), columns=columns)
    assert fit_weights(same, "rmse")[0] == (0.5, 0.5)


def test_other_references_of_an_utterance_are_told() -> None:
    with pytest.raises(EmocacheError, match=r"'m1' has another reference of toys/u than the others; give all the same"):
        put([guess("u", [1, 0, 0])], [guess("u", [1, 0, 0], reference="b")])


# As experiments.

MEMBERS = {"probe": EXPERIMENT, "gru": EXPERIMENT.replace('kind = "probe"', 'kind = "recurrent"\nhidden = 4')}


class Fusing:
    """Writes members and fusions beside each other, and carries them out."""

    def __init__(self, toy: "Toy", cache: Cache, members: dict[str, str]) -> None:
        self.toy = toy
        self.runs = toy.folder / "runs"
        self.cache = cache
        for name, text in members.items():
            toy.experiment(text, name)

    def plan(self, fusion: str, *overrides: str, folds: tuple[int, ...] = ()) -> FusionPlan:
        path = self.toy.experiment(f'description = "d"\n[fusion]\n{fusion}\n', "fused")
        request = Request(self.cache, ["toys"], self.runs, ["training.epochs=2", *overrides], folds)
        plan = request.plan(request.experiment(path))
        assert isinstance(plan, FusionPlan)
        return plan

    def lines(self, fusion: str, *overrides: str, folds: tuple[int, ...] = (), dry_run: bool = False) -> list[str]:
        return list(carry_out(self.plan(fusion, *overrides, folds=folds), Crew(1), dry_run))

    def table(self, name: str, run: str = "fold1-seed0") -> dict[tuple[str, str], dict[str, Any]]:
        """{(part, id): row} of the only setting of an experiment."""
        (folder,) = (self.runs / name / "toys").glob(f"*/{run}")
        return {(r["part"], r["id"]): r for r in pq.read_table(folder / "predictions.parquet").to_pylist()}

    def record(self, run: str = "fold1-seed0") -> dict[str, Any]:
        (folder,) = (self.runs / "fused/toys").glob(f"*/{run}")
        return dict(json.loads((folder / "run.json").read_text()))


@pytest.fixture
def fusing(toy: "Toy") -> Fusing:
    return Fusing(toy, toy.cache(failures=["spk3_1"]), MEMBERS)


AVERAGE = 'members = ["probe", "gru"]'


def test_a_fusion_trains_its_members_once_and_is_a_run_like_any_other(fusing: Fusing) -> None:
    lines = fusing.lines(AVERAGE, "seeds=[0, 1]")
    assert [line.split(":")[0] for line in lines if "reused" in line] == [
        "6 trained, 0 reused", "6 trained, 0 reused", "6 fused, 0 reused"
    ]  # fmt: skip
    again = fusing.lines(AVERAGE, "seeds=[0, 1]")
    assert [line.split(":")[0] for line in again if "reused" in line][-1] == "0 fused, 6 reused"
    (folder,) = (fusing.runs / "fused/toys").iterdir()
    assert sorted(p.name for p in (folder / "fold2-seed1").iterdir()) == ["predictions.parquet", "run.json"]
    fused, probe, gru = (fusing.table(name, "fold1-seed1") for name in ("fused", "probe", "gru"))
    assert set(fused) == set(probe) == set(gru)
    for key, found in fused.items():
        for name in ("angry", "happy", "sad"):
            assert found[f"prob.{name}"] == pytest.approx((probe[key][f"prob.{name}"] + gru[key][f"prob.{name}"]) / 2)
        assert found["reference"] == probe[key]["reference"] and found["missing"] == probe[key]["missing"]
    record = fusing.record()
    assert record["coverage"] == {"test": 12, "predicted": 11, "missing": ["toys/spk3_1"], "enrolled": 0}
    assert record["seed"] == 0 and [stream["name"] for stream in record["streams"]] == ["toy"]
    assert set(record["config"]["members"]) == {"probe", "gru"} and "weights" not in lines[-2]
    # As in the members' own run.json: what is at its former value does not set older fusions apart in tables.
    (own,) = (json.loads(path.read_text()) for path in fusing.runs.glob("probe/*/*/fold0-seed0/run.json"))
    assert record["config"]["members"]["probe"] == own["config"] and "targets_scale" not in own["config"]

    results = {result.first.experiment: result for result in group(discover([fusing.runs]))}
    assert set(results) == {"fused", "probe", "gru"} and not results["fused"].missing_runs
    accuracy = evaluate_result(results["fused"]).metrics["accuracy"].pooled
    hits = [[r["reference"] == r["prediction"] for fold in range(3) for (part, _), r in
             fusing.table("fused", f"fold{fold}-seed{seed}").items() if part == "test"] for seed in (0, 1)]  # fmt: skip
    assert accuracy == pytest.approx(np.mean(hits))


def test_an_ensemble_over_seeds_is_one_run_a_fold(fusing: Fusing) -> None:
    fusing.toy.experiment(MEMBERS["gru"].replace("[protocol]", "seeds = [0, 3]\n[protocol]", 1), "gru")
    lines = fusing.lines(f"{AVERAGE}\nover_seeds = true")
    assert lines[-1].startswith("3 fused") and "each the mean over its seeds" in "\n".join(lines)
    fused, probe = fusing.table("fused"), fusing.table("probe")
    seeds = [fusing.table("gru", f"fold1-seed{seed}") for seed in (0, 3)]
    for key, found in fused.items():
        gru = np.mean([one[key]["prob.sad"] for one in seeds])
        assert found["prob.sad"] == pytest.approx((gru + probe[key]["prob.sad"]) / 2)
    with pytest.raises(EmocacheError, match=r"'probe' and 'gru' differ in seeds \(or set fusion.over_seeds = true\)"):
        fusing.plan(AVERAGE)


def test_weights_and_votes(fusing: Fusing) -> None:
    fitted = fusing.lines(f'{AVERAGE}\nrule = "weighted"\nweights = "validation"')
    weights = fusing.record()["selection"]["chosen"]["weights"]
    assert sum(weights) == pytest.approx(1) and "weights" in fitted[-2]
    fused, probe, gru = (fusing.table(name) for name in ("fused", "probe", "gru"))
    for key, found in fused.items():
        if not found["missing"]:
            expected = weights[0] * probe[key]["prob.sad"] + weights[1] * gru[key]["prob.sad"]
            assert found["prob.sad"] == pytest.approx(expected)
    settings = {fusing.plan(AVERAGE, *more).setting for more in (
        [], ["fusion.rule=vote"], ["fusion.rule=weighted", "fusion.weights=[1, 3]"], ["training.learning_rate=0.5"],
        ["fusion.over_seeds=true"], ["fusion.over_seeds=true", "seeds=[0, 1]"])}  # fmt: skip
    assert len(settings) == 6
    assert any("0 trained, 3 reused" in line for line in fusing.lines(AVERAGE, "fusion.rule=vote"))


def test_a_modality_that_is_absent_leaves_the_others(toy: "Toy") -> None:
    corpus = toy.corpus()
    cache = toy.cache(corpus, failures=["spk3_1"])
    toy.streams(cache, corpus, ["slow"])
    fusing = Fusing(toy, cache, {**MEMBERS, "gru": MEMBERS["gru"].replace('["toy"]', '["slow"]')})
    fusing.lines(AVERAGE, folds=(1,))
    fused, probe, gru = (fusing.table(name) for name in ("fused", "probe", "gru"))
    assert any(row["missing"] for row in gru.values())
    for key, found in fused.items():
        there = [own[key] for own in (probe, gru) if key in own and not own[key]["missing"]]
        assert found["missing"] == (not there)
        if there:
            assert found["prob.happy"] == pytest.approx(np.mean([own["prob.happy"] for own in there]))
    record = fusing.record()
    assert record["coverage"]["missing"] == [
        f"toys/{i}" for (part, i), r in fused.items() if part == "test" and r["missing"]
    ]
    assert [stream["name"] for stream in record["streams"]] == ["toy", "slow"]


def test_frame_wise_members(toy: "Toy") -> None:
    gru = FRAME_EXPERIMENT.replace('kind = "probe"', 'kind = "recurrent"\nhidden = 4')
    fusing = Fusing(toy, toy.cache(), {"probe": FRAME_EXPERIMENT, "gru": gru})
    lines = fusing.lines(f'{AVERAGE}\nrule = "weighted"\nweights = [0.4, 0.6]', folds=(1,))
    assert lines[-1].startswith("1 fused") and [path.name for path in fusing.runs.rglob("fold*")] == ["fold1-seed0"] * 3
    fused, one, two = (fusing.table(name) for name in ("fused", "probe", "gru"))
    for key, found in fused.items():
        a, b = (np.array(own[key]["prediction.valence"]) for own in (one, two))
        assert found["prediction.valence"] == pytest.approx(0.4 * a + 0.6 * b)
    (result,) = (r for r in group(discover([fusing.runs])) if r.first.experiment == "fused")
    assert "ccc.valence" in evaluate_result(result).metrics


@pytest.mark.parametrize("rule", ["average", 'weighted"\nweights = "validation'])
def test_frame_wise_members_over_seeds(toy: "Toy", rule: str) -> None:
    """One member reads the first frames only, has two seeds, and lacks an utterance that the other has."""
    corpus = toy.corpus()
    cache = toy.cache(corpus)
    toy.streams(cache, corpus, ["slow"])
    gru = FRAME_EXPERIMENT.replace('kind = "probe"', 'kind = "recurrent"\nhidden = 4').replace('["toy"]', '["slow"]')
    gru = gru.replace("[protocol]", "seeds = [0, 3]\n[features]\nmax_frames = 3\n[protocol]", 1)
    fusing = Fusing(toy, cache, {"probe": FRAME_EXPERIMENT, "gru": gru})
    assert fusing.lines(f'{AVERAGE}\nover_seeds = true\nrule = "{rule}"', folds=(1,))[-1].startswith("1 fused")
    fused, probe, *seeds = (
        fusing.table(*run) for run in (["fused"], ["probe"], ["gru"], ["gru", "fold1-seed3"])
    )  # fmt: skip
    weights = fusing.record()["selection"]["chosen"]["weights"]
    assert set(fused) == set(probe) and any(r["missing"] for r in seeds[0].values())
    counted = {"both": 0, "one": 0}
    for key, found in fused.items():
        for k, value in enumerate(found["prediction.valence"]):
            own = [probe[key]["prediction.valence"][k]]
            there = [probe[key]["present"][k]]
            if key in seeds[0]:  # of the validation part only those with features are stored
                own += [np.mean([one[key]["prediction.valence"][k] for one in seeds])]
                there += [seeds[0][key]["present"][k]]
            share = [w * p for w, p in zip(weights, there, strict=False)]
            share = share if any(share) else [float(p) for p in there]
            counted["both" if all(there) and len(there) == 2 else "one"] += 1
            assert any(there) and found["present"][k]
            assert value == pytest.approx(np.dot(share, own) / sum(share))
    assert min(counted.values()) > 20
    (result,) = (r for r in group(discover([fusing.runs])) if r.first.experiment == "fused")
    assert "ccc.valence" in evaluate_result(result).metrics


def test_the_papers_that_a_file_names_are_in_the_records(toy: "Toy") -> None:
    """Of a head and of a fusion, in which it changes no setting's hash; evaluation makes their tables."""
    head = 'kind = "emotion_share"\noutput = "linear"\nchannels = [4, 4, 4]\nhidden = 4\nfeedforward = [4]'
    text = EXPERIMENT.replace('"emotion"', '"intensity"').replace('kind = "probe"', head)
    text = text.replace("[protocol]", 'task = "regression"\n[protocol]', 1)
    named = f'report = ["emotion_share"]\n{text}'
    fusing = Fusing(toy, toy.cache(), {"probe": named, "gru": named.replace("hidden = 4", "hidden = 3")})
    fusing.lines(AVERAGE, folds=(1,))
    setting, record = fusing.plan(AVERAGE).setting, fusing.record()
    assert record["report"] == [] and "report" in json.loads(next(fusing.runs.glob("gru/*/*/*/run.json")).read_text())
    path = toy.experiment(f'report = "emotion_share"\n[fusion]\n{AVERAGE}\n', "fused")
    request = Request(fusing.cache, ["toys"], fusing.runs, ["training.epochs=2"], (1,))
    plan = request.plan(request.experiment(path))
    assert plan.setting == setting and plan.to_train() == []
    shutil.rmtree(fusing.runs / "fused")
    list(carry_out(plan, Crew(1), False))
    assert fusing.record()["report"] == ["emotion_share"]
    assert [pair.name for pair in pairs(evaluate_runs([fusing.runs]))] == ["fused (toy)", "gru (toy)", "probe (toy)"]


def test_members_with_targets_apart_that_some_utterances_lack(toy: "Toy") -> None:
    corpus = toy.corpus()
    corpus.rows = [
        replace(row, labels={"valence": float(k % 7), **({"arousal": float(k % 4)} if k % 3 else {})})
        for k, row in enumerate(corpus.rows)
    ]
    apart = 'task = "regression"\ntargets_apart = true\ntargets = ["valence", "arousal"]\n'
    members = {name: text.replace('targets = ["emotion"]\n', apart) for name, text in MEMBERS.items()}
    fusing = Fusing(toy, toy.cache(corpus), members)
    fusing.lines(f'{AVERAGE}\nrule = "weighted"\nweights = "validation"')
    weights = fusing.record()["selection"]["chosen"]["weights"]
    fused, probe, gru = (fusing.table(name) for name in ("fused", "probe", "gru"))
    for key, found in fused.items():
        own = [one[key]["prediction.arousal"] for one in (probe, gru)]
        assert (own[0] is None) == (found["reference.arousal"] is None) == (int(key[1][-1]) % 3 == 0)
        assert (found["prediction.arousal"] is None) == (own[0] is None)
        if own[0] is not None:
            assert found["prediction.arousal"] == pytest.approx(np.dot(weights, own))
    (result,) = (r for r in group(discover([fusing.runs])) if r.first.experiment == "fused")
    assert np.isfinite(evaluate_result(result).metrics["rmse.arousal"].pooled)


def test_warnings_of_members_are_warnings_of_the_fusion(fusing: Fusing) -> None:
    lines = fusing.lines(AVERAGE)
    assert sum("warning: fewer than 20 groups" in line for line in lines) == 2  # of each member
    assert [one["kind"] for one in fusing.record()["warnings"]].count("fewer than 20 groups") == 1
    (older,) = (fusing.runs / "probe/toys").glob("*/fold0-seed0/run.json")  # stored before there were warnings
    kept = json.loads(older.read_text())
    older.write_text(json.dumps({name: kept[name] for name in kept if name not in ("warnings", "recordings")}))
    shutil.rmtree(fusing.runs / "fused")
    assert fusing.lines(AVERAGE)[-1].startswith("3 fused")


@pytest.mark.parametrize(
    ("fusion", "overrides", "message"),
    [
        ('members = ["probe"]', [], "fusion.members: .*at least 2"),
        ('members = ["probe", "probe"]', [], "members names an experiment twice"),
        ('members = ["probe", "./probe"]', [], "fusion.members names an experiment twice"),
        ('members = ["probe", "gruu"]', [], r"fusion.members: 'gruu' is neither beside it nor .*did you mean 'gru'\?"),
        ('members = ["probe", "fused"]', [], "'fused' is a fusion itself"),
        (f'{AVERAGE}\nrule = "weighted"', [], 'rule = "weighted" needs weights'),
        (f"{AVERAGE}\nweights = [1, 2]", [], 'rule = "weighted" needs weights'),
        (f'{AVERAGE}\nrule = "weighted"\nweights = [1, 2, 3]', [], "2 members need as many weights"),
        (f'{AVERAGE}\nrule = "weighted"\nweights = "valid"', [], "fusion.weights: .*'validation'"),
        (f'{AVERAGE}\nrool = "vote"', [], r"unknown setting 'fusion.rool'; did you mean 'fusion.rule'\?"),
        (AVERAGE, ["fusion.rule=mean"], r"fused.toml \(--set\): fusion.rule: Input should be 'average', 'weighted'"),
        (f"{AVERAGE}\n[head]\nkind='probe'", [], "unknown setting 'head' of a fusion"),
        (AVERAGE, ["head.pooling=mean_std", "head.zzz=1"], "probe.toml .*unknown setting 'head.zzz'"),
        (
            'members = ["probe", "frames"]',
            [],
            "'probe' and 'frames' differ in task: classification and frame_regression",
        ),
        ('members = ["probe", "two"]', [], "differ in targets: .*emotion.* and .*intensity"),
        (
            'members = ["probe", "random"]',
            [],
            "differ in folds, that is protocol: group_folds, 3 of .* random_folds, 3 of",
        ),
        ('members = ["probe", "loss"]\nrule = "weighted"\nweights = "validation"', [], "differ in selection.metric"),
        ('members = ["frames", "frames2"]\nrule = "vote"', [], "rule 'vote' counts classes"),
    ],
)
def test_mistakes_are_told(toy: "Toy", fusion: str, overrides: list[str], message: str) -> None:
    others = {
        "frames": FRAME_EXPERIMENT,
        "frames2": FRAME_EXPERIMENT,
        "two": EXPERIMENT.replace('["emotion"]', '["intensity"]\nthreshold = "median"'),
        "random": EXPERIMENT.replace("group_folds", "random_folds"),
        "loss": EXPERIMENT + '[selection]\nmetric = "loss"\n',
    }
    fusing = Fusing(toy, toy.cache(), MEMBERS | others)
    with pytest.raises(EmocacheError, match=message) as caught:
        fusing.plan(fusion, *overrides)
    assert "fused.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_report_on_what_heads_keep_is_not_one_of_a_fusion(toy: "Toy", fusing: Fusing) -> None:
    path = toy.experiment(f'report = "gates"\n[fusion]\n{AVERAGE}\n', "fused")
    with pytest.raises(EmocacheError, match="report 'gates' is made of what a head keeps, and a fusion stores"):
        Request(fusing.cache, ["toys"], fusing.runs, [], ()).experiment(path)


@pytest.mark.parametrize(
    ("file", "damage", "why"),
    [
        ("predictions.parquet", lambda data: data[:200], "it is not the file that was written with run.json"),
        ("predictions.parquet", lambda data: data[:20] + b"\0" * 9 + data[29:], "it is not the file that was written"),
        ("predictions.parquet", None, "No such file or directory"),
        ("run.json", lambda data: data[:50], "line 5 column"),
        ("run.json", lambda data: b"[1]", "should be an object"),
        ("run.json", lambda data: data.replace(b'"coverage"', b'"cover"'), "coverage: Field required"),
    ],
)
def test_a_damaged_run_of_a_member_is_told(
    fusing: Fusing, file: str, damage: Callable[[bytes], bytes] | None, why: str
) -> None:
    fusing.lines(AVERAGE, folds=(1,))
    (fused,) = (fusing.runs / "fused/toys").glob("*/*")
    shutil.rmtree(fused)
    (path,) = (fusing.runs / "gru/toys").glob(f"*/*/{file}")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EmocacheError) as caught:
        fusing.lines(AVERAGE, folds=(1,))
    message = str(caught.value)
    assert re.match(
        rf"fused: (gru: )?{path}: gone or damaged \(.*({why}).*\); delete the folder {path.parent} and run", message
    )
    assert "\n" not in message
    shutil.rmtree(path.parent)
    assert fusing.lines(AVERAGE, folds=(1,))[-1].startswith("1 fused")


def test_dry_run_of_a_fusion_writes_nothing(fusing: Fusing) -> None:
    lines = fusing.lines(AVERAGE, dry_run=True)
    assert lines[-1] == "runs: 3 to fuse, 0 stored already" and not fusing.runs.exists()


def test_a_fusion_has_no_head(fusing: Fusing) -> None:
    from emocache.train.config.loading import load_settings

    path = Path(fusing.toy.experiment(f"[fusion]\n{AVERAGE}", "fused"))
    assert load_experiment(str(path)).path == path
    with pytest.raises(EmocacheError, match="fuses stored predictions and has no head of its own; name one of its"):
        load_settings(str(path))
