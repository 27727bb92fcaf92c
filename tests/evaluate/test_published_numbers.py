"""The published tables as data: every number is in the papers, every row in systems.toml, every experiment shipped."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from emocache.evaluate.papers.published.paper_results import Layout, layouts
from emocache.train.config.experiment_names import experiment_names
from emocache.train.config.stream_lists import wanted_streams
from emocache.train.records.metrics import METRICS
from emocache.train.records.published import Paper, PublishedTable, read_papers

TEXTS = {paper: f"00{paper - 1}_" for paper in range(1, 6)}
TABLES = [(paper, table) for paper in read_papers() for table in paper.table]
NAMES = [f"{paper.place}/{table.name}" for paper, table in TABLES]
NUMBER = r"-?\d+(?:\.\d+)?"


def printed_numbers(text: str, table: str) -> list[str]:
    """The numbers in the cells of a table, line by line: the tab-separated lines nearest to its caption."""
    lines = text.split("\n")
    caption = next(i for i, line in enumerate(lines) if re.match(rf"\**Table {table[-1]}:", line))
    rows = {i for i, line in enumerate(lines) if "\t" in line and not line.startswith("Notes")}
    nearest = min(rows, key=lambda i: abs(i - caption))
    first = last = nearest
    while first - 1 in rows:
        first -= 1
    while last + 1 in rows:
        last += 1
    return [number for line in lines[first : last + 1] for cell in line.split("\t") for number in numbers_of(cell)]


def numbers_of(cell: str) -> list[str]:
    """Nothing of a cell that has words or counts in it."""
    plain = re.sub(r"</?b>|\$|\\begin\{array\}\{c\}|\\end\{array\}|\\textbf|[{}]", "", cell)
    parts = re.split(r" / |\s*±\s*|\s*\\pm\s*|\\\\", plain)
    return [part.strip() for part in parts] if all(re.fullmatch(NUMBER, part.strip()) for part in parts) else []


def stored_numbers(table: PublishedTable) -> list[str]:
    """The numbers of our data, row by row and part by part."""
    values = [value for row in table.row for part in row.parts for value in row.values(part) if value]
    return [number for value in values for number in value.split("±")]


@pytest.mark.parametrize(("paper", "table"), [(p, t) for p, t in TABLES if p.paper in TEXTS])
def test_every_published_number_is_in_the_paper_and_none_lacks(
    paper: Paper, table: PublishedTable, shared: Callable[[str], Path]
) -> None:
    (file,) = shared("papers").glob(f"{TEXTS[paper.paper]}*.txt")
    printed, stored = printed_numbers(file.read_text(encoding="utf-8"), table.name), stored_numbers(table)
    if (paper.paper, table.name) == (5, "table4"):  # the text has its rows column by column
        printed, stored = sorted(printed), sorted(stored)
    assert len(stored) >= 4 and stored == printed


def test_all_tables_with_numbers_are_there() -> None:
    assert {paper.paper: [table.name[5:] for table in paper.table] for paper in read_papers()} == {
        1: ["1", "2", "3", "4", "5", "6"],
        2: ["1", "2"],
        3: ["2", "3"],
        4: ["1"],
        5: ["2", "3", "4"],
        6: ["-corpus"],
        7: ["enge"],
    }


def test_the_numbers_of_emobox_are_those_that_were_collected(shared: Callable[[str], Path]) -> None:
    """In per cent there, in the order of its encoders."""
    (row,) = re.findall(
        r"^EmoBox, frozen .*RAVDESS 6 folds ((?:[\d.]+ ?){6})", (shared("spec/peers.md")).read_text(), re.M
    )
    (table,) = [table for paper, table in TABLES if paper.place == "emobox"]
    assert [f"{100 * float(number):.2f}" for number in stored_numbers(table)] == row.rstrip(". ").split()


def test_the_numbers_of_the_msp_podcast_challenge_are_those_that_were_collected(shared: Callable[[str], Path]) -> None:
    (told,) = re.findall(r"macro-F1 ([.\d]+), mean CCC ([.\d]+) \(arXiv 2506", shared("spec/peers.md").read_text())
    (table,) = [table for paper, table in TABLES if paper.place == "msp-podcast"]
    assert [float(number) for number in stored_numbers(table)] == [float(number) for number in told]
    assert "Test3" in table.mark


def base_layouts() -> list[Layout]:
    return [layout for layout in layouts([]) if layout.variant is None]


@pytest.mark.parametrize("layout", base_layouts(), ids=NAMES)
def test_every_row_is_a_system_and_is_filled_by_its_experiments(layout: Layout) -> None:
    systems = layout.systems()
    shipped = set(experiment_names())
    for row in layout.table.row:
        faithful = set()
        for column in layout.table.column:
            system = systems[column.system or row.system]
            assert set(layout.experiments(row.ours, column)) <= set(system.experiments)
            faithful |= set(layout.experiments(row.faithful, column)) & shipped
            assert column.metric in METRICS or layout.table.averages
        assert bool(faithful) == bool(row.faithful)
        assert bool(row.ours) or row.guess or "quoted" in row.system


@pytest.mark.parametrize("paper", read_papers(), ids=lambda paper: paper.place)
def test_the_weights_of_every_stream_are_pinned(paper: Paper) -> None:
    shipped = set(experiment_names())
    names = {
        name
        for layout in base_layouts()
        if layout.paper is paper
        for row in layout.table.row
        for pattern in (row.ours, row.faithful)
        for column in layout.table.column
        for name in layout.experiments(pattern, column)
    }
    streams = {stream.name.partition(".")[0] for stream in wanted_streams(sorted(names & shipped))}
    assert streams == set(paper.weights)
