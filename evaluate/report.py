"""The whole stage: runs in, files out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..cache import EmocacheError
from .output.documents import document, to_json
from .output.figures import figure_writers
from .output.figures.look import SCREEN, Look
from .output.paper_formats import FORMATS, latex_tables, to_latex, to_markdown
from .output.printed_tables import comparison_tables, result_tables
from .output.spreadsheet import to_csv
from .output.text_table import Table
from .papers import paper_reports
from .papers.published_tables import tables_with_runs, wanted_tables
from .scoring.comparison import Comparison, compare
from .scoring.current_runs import current_runs
from .scoring.result_groups import group
from .scoring.scored import Evaluation, evaluate_result
from .scoring.stored_runs import discover


def evaluate_runs(
    paths: Sequence[Path], every: bool = False, tell: Callable[[str], object] = lambda _: None
) -> list[Evaluation]:
    """Score every result that the runs below the paths make up.

    Args:
        paths: folders that training wrote runs to.
        every: also those of older data, see `current_runs`.
        tell: takes lines about the runs that are left out.

    Returns:
        The results with their numbers, by corpus, experiment and what sets them apart.

    Raises:
        EmocacheError: no runs, or runs that cannot be read or contradict each other.
    """
    runs = discover(paths)
    if not every:
        runs, lines = current_runs(runs)
        for line in lines:
            tell(line)
    return [evaluate_result(result) for result in group(runs)]


def compare_runs(
    evaluations: Sequence[Evaluation], names: tuple[str, str] | None, metrics: Sequence[str] = ()
) -> list[Comparison]:
    """Compare two experiments, see `compare`; nothing without names."""
    return compare(evaluations, *names, metrics) if names else []


def tables_as_text(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> str:
    """Return every table as a terminal shows it."""
    texts = [table.text() for table in _tables(evaluations, comparisons)]
    return "\n\n".join(filter(None, [*texts, papers_as_text(evaluations)]))


def papers_as_text(evaluations: Sequence[Evaluation]) -> str:
    """Return the papers' tables that have runs as a terminal shows them; "" where there is none."""
    return "\n\n".join(table.as_text_table().text() for table in tables_with_runs(evaluations))


def paper_table(evaluations: Sequence[Evaluation], name: str, kind: str) -> str:
    """Return a table of a paper beside ours, see `wanted_tables`, in one of `FORMATS`."""
    return FORMATS[kind](wanted_tables(evaluations, name))


def write_report(
    out: Path, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], look: Look = SCREEN
) -> list[Path]:
    """Write the tables, results.json, the papers' tables that have runs, and every figure that has numbers.

    Args:
        out: the folder, made if there is none.
        evaluations: the results.
        comparisons: those that were asked for.
        look: of the figures.

    Returns:
        The paths of what was written.

    Raises:
        EmocacheError: a folder that cannot be written to.
    """
    papers = paper_reports(evaluations)
    tables = _tables(evaluations, comparisons)
    texts = {
        "table.md": "# Results\n\n" + "\n\n".join(table.markdown() for table in tables) + "\n",
        "table.tex": latex_tables(tables),
        "table.csv": to_csv(evaluations),
        "results.json": to_json(document(evaluations, comparisons)),
    }
    for table in tables_with_runs(evaluations):
        texts[f"tables/{table.file_name}.md"] = to_markdown([table])
        texts[f"tables/{table.file_name}.tex"] = to_latex([table])
    for paper, own in papers:
        texts |= paper.texts(own)
    written = []
    # Tables and texts are made by now: where that fails, there is no folder with half of them.
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            written.append(out / name)
            written[-1].parent.mkdir(exist_ok=True)
            written[-1].write_text(text, encoding="utf-8", newline="\n")
        with look.drawing():
            for write in figure_writers():
                written += write(out, evaluations, look)
            for paper, own in papers:
                for write in paper.figures:
                    written += write(out, own, look)
    except OSError as error:
        raise EmocacheError(f"{out} cannot be written to: {error.strerror}; name another folder with --out") from error
    return written


def _tables(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> list[Table]:
    of_papers = [table for paper, own in paper_reports(evaluations) for table in paper.tables(own)]
    return [*result_tables(evaluations), *of_papers, *comparison_tables(comparisons)]
