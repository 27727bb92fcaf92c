"""Of runs that differ in nothing but their data, those of one state of the data count."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from emocache.evaluate.scoring.current_runs import current_runs
from emocache.evaluate.scoring.stored_runs import discover

DAY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def generations(write_run: Any, utterance: Any) -> Any:
    """Write as many folds of four as each number says, each state of the data a day after the one before it."""

    def write(folds: list[int], experiment: str = "probe", **fields: Any) -> None:
        for day, count in enumerate(folds):
            when = (DAY + timedelta(days=day)).isoformat()
            data = {"setting": f"{day:012x}", "manifests": {"demo": f"{day:064x}"}, "made": when}
            for fold in range(count):
                row = utterance(f"u{fold}", "s", "sad", "sad")
                write_run([row], fold=fold, **{"folds": 4, "experiment": experiment, **data, **fields})

    return write


@pytest.mark.parametrize("seed", range(12))
def test_the_most_complete_counts_and_of_those_the_newest(tmp_path: Path, generations: Any, seed: int) -> None:
    folds = [Random(seed).randint(1, 4) for _ in range(1 + seed % 4)]
    generations(folds)
    kept, lines = current_runs(discover([tmp_path / "runs"]))
    taken = max(day for day, count in enumerate(folds) if count == max(folds))
    assert [int(run.record.setting, 16) for run in kept] == [taken] * folds[taken]
    older, newer = sum(folds[:taken]), folds[taken + 1 :]
    assert [line for line in lines if "older data is" in line or "older data are" in line] == (
        [] if not older else ["1 other run of older data is left out (--all)"] if older == 1 else
        [f"{older} other runs of older data are left out (--all)"]
    )  # fmt: skip
    for count in newer:
        assert any(f"probe on demo: {count} of 4 runs of newer data are left out" in line for line in lines)
    assert len(lines) == bool(older) + len(newer)


def test_where_nothing_is_superseded_all_count_and_nothing_is_told(tmp_path: Path, generations: Any) -> None:
    generations([4], "one")
    generations([2], "other")
    same = {"manifests": {"demo": "cd" * 32}}  # such as with another file of first weights
    generations([4, 4], "files", **same)
    generations([4], "three", config={"streams": {"frames": ["logmel"]}, "head": {"kind": "gru"}, "seeds": [0]})
    runs = discover([tmp_path / "runs"])
    assert current_runs(runs) == (runs, [])


def test_what_is_said_of_a_setting_and_its_seeds_is_no_difference(tmp_path: Path, write_run: Any) -> None:
    for day, more in enumerate(({"description": "a", "seeds": [0]}, {"description": "b", "report": [], "seeds": [0]})):
        when = (DAY + timedelta(days=day)).isoformat()
        config = {"streams": {"frames": ["logmel"]}, **more}
        write_run([], setting=f"{day:012x}", split_sha256=f"{day:064x}", config=config, made=when)
    kept, _ = current_runs(discover([tmp_path / "runs"]))
    assert [run.record.setting for run in kept] == [f"{1:012x}"]
