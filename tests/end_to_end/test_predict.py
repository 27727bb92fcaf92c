"""Prediction by stored runs: what training stored comes out again, and what is wrong is told."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import emocache
from emocache.cache import Cache, EmocacheError, Manifest
from emocache.cache.recipe import fingerprint
from emocache.evaluate.scoring.stored_runs import discover
from emocache.extract import clip_streams, goal_run
from emocache.extract.pipeline import encoding_loop, stage
from emocache.prediction import Predictor
from emocache.train.data.example import Stamps, on_stamps
from emocache.train.run.crew import Crew
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.run_folders import read_run

from .conftest import Run

QUICK = ["training.epochs=1", "training.patience=1", "seeds=[0]", "protocol={name='group_folds', folds=3}"]
EXPERIMENTS = {
    "probe": ["streams=['logmel']", "training.weight_decay=0.01"],
    "bigru": ["streams=['mfcc']", "head.hidden=8", "features.average_frames=16"],
    "cats": ["streams=['mfcc']", "features.average_frames=16", "task=frame_regression", "targets=arousal", "loss={}",
             "selection={metric='ccc'}", 'head={kind="cats", decoder="transformer", width=16, feedforward=16}'],
}  # fmt: skip


class Demo:
    """The demo corpus, its cache, and runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.corpus = folder / "corpus"
        stage.extract(stage.Options("demo", self.corpus, str(self.store), ("mfcc", "logmel")))
        cache = Cache(self.store)
        self.media = {u.id: self.corpus / u.media[0].path for u in cache.manifest("demo")}
        self.runs: dict[str, Path] = {}
        for name, changes in EXPERIMENTS.items():
            request = Request(cache, ["demo"], folder / "runs", [*changes, *QUICK])
            plan = request.plan(request.experiment("bigru" if name == "cats" else name))
            list(carry_out(plan, Crew(1), False))
            self.runs[name] = plan.folder(0, 0).parent

    @property
    def some(self) -> Path:
        """One clip."""
        return self.media[next(iter(self.media))]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Made once; no test writes into it."""
    pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra 'demo'")
    return Demo(tmp_path_factory.mktemp("demo"))


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("cached", [True, False])
def test_every_test_prediction_comes_out_again(demo: Demo, name: str, cached: bool) -> None:
    """From the cache to the bit; from the sound within 1e-5."""
    for run in sorted(demo.runs[name].glob("fold*")):
        record, table = read_run(run)
        rows = [row for row in table.to_pylist() if row["part"] == "test" and not row["missing"]]
        media = [demo.media[row["id"]] for row in rows]
        found = Predictor(run, cache=demo.store if cached else None).predict(media)
        assert not found.failures and len(found.clips) == len(rows) > 10
        for row, clip in zip(rows, found.clips, strict=True):
            assert clip.training == "test"
            if record.classes:
                wanted, given = np.array([row[f"prob.{c}"] for c in record.classes]), np.array([*clip.values.values()])
                assert clip.label == row["prediction"]
            else:
                (target,) = record.targets
                wanted = np.array(row[f"prediction.{target}"])[:, None]
                stamps = Stamps(np.array(row["times"]), wanted)
                given = on_stamps(np.array(clip.track[target])[:, None], np.array(clip.times), stamps, 0.0)
            np.testing.assert_allclose(given, wanted, rtol=0, atol=0 if cached else 1e-5)
    assert Cache(demo.store).corpora() == ["demo"]


def test_a_clip_alone_is_as_in_a_batch(demo: Demo) -> None:
    media = [*demo.media.values()][:5]
    together = emocache.predict(demo.runs["bigru"], media, fold=0)
    for path, clip in zip(media, together.clips, strict=True):
        (alone,) = emocache.predict(demo.runs["bigru"], [path], fold=0).clips
        np.testing.assert_allclose([*alone.values.values()], [*clip.values.values()], rtol=0, atol=1e-5)


@pytest.mark.parametrize("refit", [False, True])
def test_a_refit_has_trained_on_what_validated(demo: Demo, tmp_path: Path, refit: bool) -> None:
    """So its predictions of it are no more of a validation part than those of what it trained on."""
    setting = tmp_path / "setting"
    shutil.copytree(demo.runs["probe"], setting)
    run = setting / "fold1-seed0"
    document = json.loads((run / "run.json").read_text())
    document["selection"]["refit"] = refit
    (run / "run.json").write_text(json.dumps(document))
    _, table = read_run(run)
    media = {row["part"]: demo.media[row["id"]] for row in table.to_pylist()}
    found = Predictor(run, cache=demo.store).predict([*media.values()])
    told = {part: clip.training for part, clip in zip(media, found.clips, strict=True)}
    assert told["test"] == "test" and told["valid"] == ("train" if refit else "valid")


def test_the_mean_over_the_folds_is_marked(demo: Demo, emocache_: Run) -> None:
    ran = emocache_("predict", demo.runs["probe"], demo.some)
    assert ran.status == 0 and "the mean of 3 models" in ran.out and "no test score" in ran.out
    each = [emocache.predict(demo.runs["probe"], [demo.some], fold=k).clips[0].values for k in range(3)]
    (mean,) = emocache.predict(demo.runs["probe"], [demo.some]).clips
    assert mean.values == pytest.approx({c: np.mean([one[c] for one in each]) for c in each[0]})


def test_ten_minutes_go_in_windows(demo: Demo, emocache_: Run, tmp_path: Path) -> None:
    """Each window is what the same piece of sound is as a clip of its own."""
    rate = 16000
    sound = np.concatenate([soundfile.read(path)[0] for path in demo.media.values()])
    sound = np.resize(sound, 600 * rate)
    soundfile.write(tmp_path / "long.wav", sound, rate)
    ran = emocache_("predict", demo.runs["probe"], tmp_path / "long.wav", "--json", "--fold", 0)
    (clip,) = map(json.loads, ran.out.splitlines())
    longest = max(u.duration or 0 for u in Cache(demo.store).manifest("demo"))
    edges = [(one["start"], one["end"]) for one in clip["windows"]]
    assert edges[0][0] == 0 and edges[-1][1] == pytest.approx(600) and "training" not in clip
    assert all(b - a <= longest + 1e-9 for a, b in edges)
    assert [a for a, _ in edges[1:]] == [b for _, b in edges[:-1]]
    start, end = edges[3]
    soundfile.write(tmp_path / "piece.wav", sound[round(start * rate) : round(end * rate)], rate, "FLOAT")
    (piece,) = emocache.predict(demo.runs["probe"], [tmp_path / "piece.wav"], fold=0).clips
    assert clip["windows"][3]["probabilities"] == pytest.approx(piece.values, abs=1e-3)
    mean = np.mean([[*one["probabilities"].values()] for one in clip["windows"]], axis=0)
    np.testing.assert_allclose([*clip["probabilities"].values()], mean, atol=1e-9)


def test_a_track_is_written_as_csv_and_picture(demo: Demo, emocache_: Run, tmp_path: Path) -> None:
    ran = emocache_("predict", demo.runs["cats"], demo.some, "--out", tmp_path / "tracks")
    assert ran.status == 0
    stem = tmp_path / "tracks" / demo.some.stem
    header, *lines = stem.with_suffix(".csv").read_text().splitlines()
    assert header == "seconds,arousal" and len(lines) > 5
    assert stem.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_a_cache_is_filled_and_used(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, store = demo.runs["probe"], tmp_path / "store"
    first = emocache.predict(run, [demo.some], cache=store)
    other = [*demo.media.values()][1]
    both = emocache.predict(run, [other, demo.some], cache=store)
    assert Cache(store).corpora() == ["predicted"] and len(Cache(store).manifest("predicted")) == 2

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(encoding_loop, "run", never)
    again = emocache.predict(run, [demo.some], cache=store)
    assert again.clips[0].values == first.clips[0].values == pytest.approx(both.clips[1].values, abs=1e-6)


def test_two_processes_fill_one_cache(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one puts its manifest while this one encodes: both have their predictions, and the cache both clips."""
    store, (one, other) = tmp_path / "store", [*demo.media.values()][:2]
    reach = goal_run.reach_goals

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(clip_streams, "reach_goals", reach)
        assert emocache.predict(demo.runs["probe"], [other], cache=store).clips
        (alone,) = [
            u for u in Cache(store).manifest("predicted") if u.media[0].sha256 == sha256(other.read_bytes()).hexdigest()
        ]
        Cache(store).put_manifest(Manifest.from_utterances("predicted", [alone]))  # as if it had begun first
        return reach(*arguments)

    monkeypatch.setattr(clip_streams, "reach_goals", meanwhile)
    found = emocache.predict(demo.runs["probe"], [one], cache=store)
    assert found.clips and not found.failures and len(Cache(store).manifest("predicted")) == 2


def test_what_cannot_be_used_is_listed(demo: Demo, emocache_: Run, tmp_path: Path) -> None:
    hostile = tmp_path / "a\n\x1b[31m$(x); b\u0301 .WAV"
    shutil.copy(demo.some, hostile)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no sound")
    (tmp_path / "broken.wav").write_text("no sound either")
    wrong = [tmp_path / name for name in ("empty", "notes.txt", "broken.wav", "absent.wav")]
    ran = emocache_("predict", demo.runs["probe"], hostile, *wrong, "--json")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.status == 1 and len(lines) == 5
    assert "label" in lines[0] and "\n" not in lines[0]["clip"] and "\x1b" not in lines[0]["clip"]
    assert {Path(line["clip"]).name for line in lines[1:]} == {path.name for path in wrong}
    assert (
        all(line["error"] for line in lines[1:])
        and "broken.wav cannot be decoded" in ran.err
        and ran.err.count("failed: ") == 4
    )
    assert "Traceback" not in ran.err


def test_a_table_and_a_folder(demo: Demo, tmp_path: Path) -> None:
    shutil.copy(demo.some, tmp_path / "clip.wav")
    (tmp_path / "rows.csv").write_text("id,file,start,end,mood\none,clip.wav,0,0.5,x\ntwo,clip.wav,,,\n")
    found = emocache.predict(demo.runs["probe"], [tmp_path / "rows.csv", tmp_path], fold=1)
    assert [clip.name for clip in found.clips] == ["one", "two", str(tmp_path / "clip.wav")]
    assert found.clips[1].values == found.clips[2].values != found.clips[0].values


def test_other_weights_are_refused(demo: Demo, tmp_path: Path, emocache_: Run) -> None:
    """And another recipe, such as that of another version, in one line that says what differs."""
    setting = tmp_path / "setting"
    shutil.copytree(demo.runs["probe"], setting)
    path = setting / "sources" / "sources.json"
    for change, told in (({"weights_sha256": "ab" * 32}, "abababababab"), ({"version": 99}, "version is")):
        document = json.loads((demo.runs["probe"] / "sources" / "sources.json").read_text())
        recipe = document["streams"]["logmel"]["recipe"] | change
        document["streams"]["logmel"] |= {"recipe": recipe, "fingerprint": fingerprint(recipe)}
        path.write_text(json.dumps(document))
        ran = emocache_("predict", setting, demo.some)
        assert ran.status == 1 and told in ran.err and ran.err.count("\n") == 1


@pytest.mark.parametrize("name", ["run.json", "weights.safetensors", "transforms.safetensors"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_run_is_told(demo: Demo, tmp_path: Path, emocache_: Run, name: str, how: str) -> None:
    setting = tmp_path / "setting"
    shutil.copytree(demo.runs["probe"], setting)
    path = setting / "fold1-seed0" / name
    data = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    ran = emocache_("predict", setting / "fold1-seed0", demo.some)
    assert ran.status == 1 and str(path) in ran.err and ran.err.startswith("error: ") and ran.err.count("\n") == 1


def test_sources_that_are_gone_come_by_training_again(demo: Demo, tmp_path: Path) -> None:
    shutil.copytree(demo.folder / "runs", tmp_path / "runs")
    setting = tmp_path / "runs" / demo.runs["probe"].relative_to(demo.folder / "runs")
    shutil.rmtree(setting / "sources")
    with pytest.raises(EmocacheError, match="run the same `emocache train` again"):
        Predictor(setting)
    request = Request(Cache(demo.store), ["demo"], tmp_path / "runs", [*EXPERIMENTS["probe"], *QUICK])
    assert "0 trained" in list(carry_out(request.plan(request.experiment("probe")), Crew(1), False))[-1]
    assert emocache.predict(setting, [demo.some]).clips[0].label


def test_folders_that_are_none_are_told(demo: Demo, tmp_path: Path) -> None:
    for path, told in ((tmp_path, "no runs below"), (tmp_path / "x", "is not a folder"),
                       (demo.folder / "runs", "runs of 3 settings")):  # fmt: skip
        with pytest.raises(EmocacheError, match=told):
            Predictor(path)
    with pytest.raises(EmocacheError, match="no run of --fold 7"):
        Predictor(demo.runs["probe"], fold=7)


def test_the_final_run_answers_and_is_in_no_evaluation(demo: Demo, tmp_path: Path, emocache_: Run) -> None:
    """On all utterances, with the epochs that the folds voted for; `runs` shows it, and removes it with the others."""
    runs = tmp_path / "runs"
    changes = ["--set", "streams=['mfcc']", "--set", "features.average_frames=16", "--set", "training.epochs=3",
               "--set", "head.hidden=8", "--set", "protocol={name='group_folds', folds=3}", "--set", "seeds=[0]",
               "--set", "search.training.learning_rate=[0.001,0.01]"]  # fmt: skip
    asked = ("train", "bigru", "--cache", demo.store, "--runs", runs, "--corpus", "demo", *changes, "--final")
    ran = emocache_(*asked)
    assert ran.status == 0 and "final: all 360 utterances, by the votes of 3 runs" in ran.out
    (final,) = runs.rglob("final-seed0")
    record = json.loads((final / "run.json").read_text())
    others = [json.loads(path.read_text())["selection"] for path in final.parent.glob("fold*/run.json")]
    chosen = [one["chosen"] for one in others]
    assert record["final"] and chosen.count(record["selection"]["chosen"]) == max(map(chosen.count, chosen))
    agreed = sorted(one["best_epoch"] for one in others if one["chosen"] == record["selection"]["chosen"])
    assert record["selection"]["best_epoch"] == agreed[(len(agreed) - 1) // 2]
    assert "final: reused" in emocache_(*asked).out
    found = emocache_("predict", final.parent, demo.some)
    assert "by final-seed0" in found.out and "no test score" in found.out
    assert len(discover([runs])) == 3
    listed = json.loads(emocache_("runs", "ls", runs, "--json").out)["runs"]
    assert [(one["state"], one["of"]) for one in listed] == [("current", 3), ("final", 1)]
    listed = json.loads(emocache_("runs", "ls", runs, "--cache", demo.store, "--json").out)["runs"]
    assert [one["state"] for one in listed] == ["current", "final"]
    ids = [one["id"] for one in listed]
    assert emocache_("runs", "rm", runs, *ids, "--yes").status == 0 and not list(runs.iterdir())


def test_an_export_predicts_and_so_does_its_graph(demo: Demo, tmp_path: Path, emocache_: Run) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs the extra 'onnx'")
    pytest.importorskip("onnxscript", reason="ONNX needs the extra 'onnx'")
    out = tmp_path / "export"
    ran = emocache_("export", demo.runs["probe"], out, "--fold", 0)
    assert ran.status == 0 and "huggingface-cli upload" in ran.out and "not as ONNX" not in ran.err
    (wanted,) = emocache.predict(demo.runs["probe"], [demo.some], fold=0, cache=demo.store).clips
    (found,) = emocache.predict(out, [demo.some], cache=demo.store).clips
    assert found.values == wanted.values and found.training
    session = onnxruntime.InferenceSession(str(out / "fold0-seed0" / "head.onnx"))
    frames = Cache(demo.store).stream("demo", "logmel").read(next(iter(demo.media))).astype(np.float32)
    (values,) = session.run(None, {"frames": frames})
    np.testing.assert_allclose(values, [*wanted.values.values()], rtol=0, atol=1e-4)
    card = (out / "README.md").read_text()
    assert "95 % bootstrap interval" in card and "probe" in card and "Intended use" in card
    assert not list(out.rglob("predictions.parquet"))
    again = emocache_("export", demo.runs["probe"], out)
    assert again.status == 1 and "not an empty folder" in again.err


def test_a_head_that_cannot_be_a_graph_says_so(demo: Demo, tmp_path: Path, emocache_: Run) -> None:
    pytest.importorskip("onnxscript", reason="ONNX needs the extra 'onnx'")
    ran = emocache_("export", demo.runs["cats"], tmp_path / "export", "--fold", 1)
    assert ran.status == 0 and ran.err.splitlines()[-1].startswith("fold1-seed0: not as ONNX: its decoder")
    assert "not as ONNX" in (tmp_path / "export" / "README.md").read_text()
    assert emocache.predict(tmp_path / "export", [demo.some], cache=demo.store).clips
