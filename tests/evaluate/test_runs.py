"""Finding runs, and what is wrong with them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import EmocacheError
from emocache.evaluate.scoring.stored_predictions import read_predictions
from emocache.evaluate.scoring.stored_runs import discover, read_run


def test_runs_are_found_once_however_they_are_named(tmp_path: Path, grid: Any) -> None:
    grid()
    runs = tmp_path / "runs"
    whole = discover([runs])
    assert [(run.record.fold, run.record.seed) for run in whole] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert discover([runs, runs / "probe", whole[2].folder]) == whole
    assert discover([whole[2].folder]) == [whole[2]]


def test_a_run_still_being_written_is_no_run(tmp_path: Path, grid: Any) -> None:
    grid(seeds=[0])
    done = next(iter(discover([tmp_path / "runs"]))).folder
    for name in (".fold0-seed9", "fold0-seed9.tmp-1", "fold0-seed9~"):
        (done.parent / name).mkdir()
        (done.parent / name / "run.json").write_text("half")
    assert len(discover([tmp_path / "runs"])) == 2


def test_no_runs_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"no runs below .*emocache train EXPERIMENT --runs DIR"):
        discover([tmp_path])
    with pytest.raises(
        EmocacheError, match="absent does not exist; give the folder that `emocache train --runs` wrote to"
    ):
        discover([tmp_path / "absent"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "format: Input should be 1"),
        ({"folds": "many"}, "folds: "),
        ({"classes": None}, "a classification needs classes"),
        ({"prior": {"angry": 1.0}}, "prior lacks happy, sad"),
        ({"streams": [{"corpus": "demo"}]}, "streams.0.name: Field required"),
    ],
)
def test_a_run_json_that_lacks_something_is_named(
    tmp_path: Path, write_run: Any, utterance: Any, change: dict[str, Any], told: str
) -> None:
    folder = write_run([utterance("a", "s", "sad", "sad")])
    record = json.loads((folder / "run.json").read_text()) | change
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(EmocacheError, match=re.escape(f"{folder / 'run.json'}: ")) as caught:
        read_run(folder)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "null", '{"format": 1}'])
def test_a_damaged_run_json_is_named(write_run: Any, utterance: Any, text: str) -> None:
    folder = write_run([utterance("a", "s", "sad", "sad")])
    (folder / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(EmocacheError, match=r"run\.json: .*train this run again"):
        discover([folder])
    (folder / "run.json").unlink()
    with pytest.raises(EmocacheError, match=r"a run folder without run\.json"):
        discover([folder])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"prediction": "afraid"}, "prediction 'afraid' is not one of the run's classes (angry, happy, sad)"),
        ({"reference": None}, "reference None is not one of"),
        ({"group": None}, "an utterance without corpus, id or group"),
    ],
)
def test_predictions_that_do_not_fit_are_named(
    write_run: Any, utterance: Any, fields: dict[str, Any], told: str
) -> None:
    good = utterance("a", "s", "sad", "sad")
    run = read_run(write_run([good, good | {"id": "b"} | fields]))
    with pytest.raises(EmocacheError, match=re.escape(f"{run.predictions}: {told}")):
        read_predictions(run, run.record.classes or ())


def test_damaged_predictions_are_named(write_run: Any, utterance: Any) -> None:
    row = utterance("a", "s", "sad", "sad")
    del row["prediction"]
    run = read_run(write_run([row]))
    with pytest.raises(EmocacheError, match="no column prediction; delete the run's folder"):
        read_predictions(run, ["sad"])
    run.predictions.write_bytes(run.predictions.read_bytes()[:40])
    with pytest.raises(EmocacheError, match="not a readable Parquet file"):
        read_predictions(run, ["sad"])
    run.predictions.unlink()
    with pytest.raises(EmocacheError, match="does not exist"):
        read_predictions(run, ["sad"])


FRAMES = {"task": "frame_regression", "targets": ["valence"], "classes": None, "prior": {"valence": 0.1}}


def test_frames_are_flattened_and_unlabelled_ones_left_out(write_run: Any) -> None:
    who = {"speaker": "s", "group": "s"}
    first = {"id": "a", **who, "times": [0.1, 0.2], "reference.valence": [1.0, None], "prediction.valence": [0.5, 0.6]}
    second = {"id": "b", **who, "times": [], "reference.valence": [], "prediction.valence": []}
    third = {"id": "c", **who, "times": [0.1], "reference.valence": [3.0], "prediction.valence": [2.0]}
    other = first | {"id": "d", "part": "valid"}
    run = read_run(write_run([first, other, second, third], **FRAMES))
    predictions = read_predictions(run, ())
    samples = predictions.samples["valence"]
    assert predictions.utterances.tolist() == ["demo/a", "demo/b", "demo/c"]
    assert predictions.unit == "speaker"
    assert samples.reference.tolist() == [1.0, 3.0] and samples.prediction.tolist() == [0.5, 2.0]
    assert samples.row.tolist() == [0, 2]


def test_frames_of_uneven_length_are_named(write_run: Any) -> None:
    row = {"id": "a", "speaker": "s", "group": "s", "reference.valence": [1.0, 2.0], "prediction.valence": [0.5]}
    run = read_run(write_run([row], **FRAMES))
    with pytest.raises(EmocacheError, match="row 0 of the test part has 2 references but 1 predictions"):
        read_predictions(run, ())
