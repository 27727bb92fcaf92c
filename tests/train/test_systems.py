"""The table of systems: complete, true to the files, and printed as docs/systems.md."""

import re
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from pydantic import ValidationError

import emocache
from emocache.train.config.experiment_names import experiment_names
from emocache.train.config.sections import Augmentation, FeatureSettings, LossSettings, Protocol, Selection, Training
from emocache.train.config.settings import Settings
from emocache.train.heads import HEADS
from emocache.train.records.published import published_text
from emocache.train.records.systems import PAPERS, Systems, read_systems
from emocache.train.systems_page import markdown

ROOT = Path(emocache.__file__).parent
GENERATE = "python -m emocache.train.systems_page > docs/systems.md"


@pytest.fixture(scope="module")
def systems() -> Systems:
    return read_systems()


def missing_rows(systems: Systems, models: str) -> list[int]:
    """Numbered rows of the section "Systems and rows that must work" that no entry has."""
    section = re.split(r"^# 11\. ", models, flags=re.MULTILINE)[1]
    wanted = [int(number) for number in re.findall(r"^ (\d+) ", section, flags=re.MULTILINE)]
    assert wanted == list(range(1, 18))
    return [number for number in wanted if number not in {row.number for row in systems.row}]


def test_the_page_is_up_to_date(systems: Systems) -> None:
    assert (ROOT / "docs/systems.md").read_text(encoding="utf-8") == markdown(systems), f"run `{GENERATE}`"


def test_it_prints_the_page() -> None:
    command = [sys.executable, "-P", "-m", "emocache.train.systems_page"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout == markdown(read_systems())


def test_every_experiment_is_mentioned_and_exists(systems: Systems) -> None:
    names = experiment_names()
    assert systems.mentioned <= set(names) and {systems.varied(name) for name in names} <= systems.mentioned
    variants = {name for name in names if name != systems.varied(name)}
    assert not variants & systems.mentioned
    assert all(any(name.startswith(one.prefix) for name in variants) for one in systems.variant)
    rows = {name for row in systems.row for name in row.experiments}
    assert not rows & set(systems.beyond) and len(set(systems.beyond)) == len(systems.beyond)


def test_every_test_exists(systems: Systems) -> None:
    assert not [row.test for row in systems.row if not (ROOT / row.test).is_file()]


def test_every_row_is_trained_and_tested_or_made_of_predictions(systems: Systems) -> None:
    assert not [row.row for row in systems.row if not row.test]
    assert not [row.row for row in systems.row if row.status != "evaluate" and not row.experiments]


def test_every_row_says_in_what_it_differs_from_the_paper(systems: Systems) -> None:
    """`deviations = []` is a statement too, "as published"; saying nothing is none."""
    assert not [row.row for row in systems.row if "deviations" not in row.model_fields_set]
    sentences = [sentence for row in systems.row for sentence in row.deviations]
    assert all(sentence[0].isupper() or sentence[0] == "`" for sentence in sentences)
    assert all(sentence.endswith(".") for sentence in sentences)
    assert all(len(set(row.deviations)) == len(row.deviations) for row in systems.row)


def test_what_a_deviation_names_exists(systems: Systems) -> None:
    """Single experiments, or those of the row that a pattern is about; evaluated rows share the sentences of others."""
    for row in systems.row:
        for name in re.findall(r"`([^`]+)`", " ".join(row.deviations)):
            pattern = name if "/" in name else f"paper{row.paper}/{name}"
            among = row.experiments if "*" in name and row.status != "evaluate" else experiment_names()
            assert any(fnmatch(experiment, pattern) for experiment in among), (row.row, name)


def test_deviations_are_named_once_and_all_are_used() -> None:
    row = {"number": 1, "paper": 1, "row": "x", "table": "Table 1", "test": "x", "deviations": ["frozen"]}
    read = Systems.model_validate({"row": [row], "deviations": {"frozen": "It is frozen."}})
    assert read.row[0].deviations == ("It is frozen.",)
    for wrong in ({}, {"frozen": "It is frozen.", "other": "Unused."}):
        with pytest.raises(ValidationError, match=r"frozen|other"):
            Systems.model_validate({"row": [row], "deviations": wrong})


def test_the_page_tells_every_deviation(systems: Systems) -> None:
    page = markdown(systems)
    for row in systems.row:
        assert all(f". {sentence}\n" in page for sentence in row.deviations)


def test_every_numbered_row_of_the_specification_is_there(systems: Systems, shared: Callable[[str], Path]) -> None:
    models = shared("spec/models.md").read_text(encoding="utf-8")
    assert missing_rows(systems, models) == []
    fewer = systems.model_copy(update={"row": tuple(row for row in systems.row if row.number != 12)})
    assert missing_rows(fewer, models) == [12]


def test_the_page_has_a_line_for_every_row(systems: Systems) -> None:
    page = markdown(systems)
    for row in systems.row:
        assert f"| {row.number} | {row.table} | " in page
    assert all(f"## Paper {paper}: " in page for paper in PAPERS)


def test_the_page_of_heads_names_every_head_and_setting() -> None:
    page = (ROOT / "docs/heads.md").read_text(encoding="utf-8")
    table = page.partition("## The heads")[2].partition("## ")[0]
    assert not [kind for kind in HEADS if f"`{kind}`" not in table]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"\w+", " ".join(inline)))
    for model in (Settings, Protocol, FeatureSettings, LossSettings, Training, Augmentation, Selection):
        assert not set(model.model_fields) - named - {"description"}


def test_numbers_of_tables_are_told_once(systems: Systems) -> None:
    """As data, see train/records/published; a text is for what has none."""
    told = {row: published_text(row.paper, row.table, row.row) for row in systems.row}
    assert not [row.row for row in systems.row if row.published and told[row]]
    assert published_text(5, "Table 4", "CAN, - L_align") == "WA, UA: 0.573±0.015 0.484±0.017"
    video = published_text(1, "Table 5", "CATS-Transformer, video")
    assert video.startswith("video RMSE, video CCC: C2 0.1526 0.0009; C3 0.0825 0.0001; ")
    tables = [row for row in systems.row if re.fullmatch(r"Table \d", row.table) and not told[row]]
    assert {row.published.partition(";")[0] for row in tables} == {"not given"}
