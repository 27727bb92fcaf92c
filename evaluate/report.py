"""The whole stage: runs in, files out."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from ..cache import Cache, EmocacheError
from ..cache.telling import Progress
from .output.documents import document, to_json
from .output.figures import figure_writers
from .output.figures.look import SCREEN, Look
from .output.headlines import headlines
from .output.paper_formats import FORMATS, latex_tables, to_latex, to_markdown
from .output.printed_tables import comparison_tables, result_tables
from .output.results_table import results_table
from .output.screen import Screen
from .output.spreadsheet import to_csv
from .output.text_table import Table
from .page.media_links import Source
from .papers import paper_reports
from .papers.published.published_scores import published_text
from .papers.published.published_tables import tables_with_runs, wanted_tables
from .scoring.current_runs import current_runs
from .scoring.ranking.comparison import Comparison, compare, select
from .scoring.result_groups import group
from .scoring.scored import Evaluation, evaluate_result
from .scoring.stored_runs import discover


def evaluate_runs(
    paths: Sequence[Path],
    every: bool = False,
    tell: Callable[[str], object] = lambda _: None,
    names: Sequence[str] = (),
) -> list[Evaluation]:
    """Score every result that the runs below the paths make up.

    Args:
        paths: folders that training wrote runs to.
        every: also those of older data, see `current_runs`.
        tell: takes lines about the runs that are left out.
        names: experiments that must be among them, which is told before anything is scored.

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
    results = group(runs)
    for name in names:
        select(results, name)
    evaluations = []
    with Progress("results", len(results)) as progress:
        for result in results:
            evaluations.append(evaluate_result(result))
            progress.step()
    return evaluations


def check_places(out: Path, page: Path, cache: str | None, media: Sequence[Path]) -> None:
    """Refuse places that nothing can be written to or read from, before anything is scored.

    Args:
        out: folder for tables and figures.
        page: file for the report.
        cache: see `write_page`.
        media: see `write_page`.

    Raises:
        EmocacheError: the first of them that will not do, with the option that names another.
    """
    if out.exists() and not out.is_dir():
        raise EmocacheError(f"{out} is a file; name a folder with --out")
    if page.is_dir():
        raise EmocacheError(f"{page} is a folder; name a file with --report, such as {page / 'report.html'}")
    for folder in media:
        if not folder.is_dir():
            raise EmocacheError(f"--media {folder}: there is no such folder; give the corpus's")
    if cache is not None and not (store := Cache(cache)).corpora():
        raise EmocacheError(f"--cache: cache {cache} {store.why_empty()}")


def compare_runs(
    evaluations: Sequence[Evaluation], names: tuple[str, str] | None, metrics: Sequence[str] = ()
) -> list[Comparison]:
    """Compare two experiments, see `compare`; nothing without names."""
    return compare(evaluations, *names, metrics) if names else []


def summary_text(evaluations: Sequence[Evaluation], screen: Screen, folder: Path, page: Path) -> str:
    """Return what is told first: the best result of each corpus and target, and where everything lies.

    Args:
        evaluations: the results.
        screen: to fit the lines to.
        folder: that tables and figures were written to.
        page: the report.
    """
    lines = headlines(evaluations, published_text(evaluations))
    lines.append(f"to be read in a browser: {page}")
    lines.append(
        f"written to {folder}: the tables (table.md, .tex, .csv), results.json, the papers' tables, the figures"
    )
    return screen.lines(lines)


def scores_text(evaluations: Sequence[Evaluation], screen: Screen) -> str:
    """Return the primary scores of results, each with its interval, beside chance."""
    published = published_text(evaluations)
    return screen.lines([line for e in evaluations for line in headlines([e], published)])


def tables_text(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
    screen: Screen,
    sort: str | None = None,
    full: bool = False,
) -> str:
    """Return the tables for people.

    Args:
        evaluations: the results.
        comparisons: those that were asked for.
        screen: to fit the tables to.
        sort: column of the table of results.
        full: every table that is written, and those of papers; else one table of all results, and the comparisons.

    Raises:
        EmocacheError: there is no such column.
    """
    tables = [results_table(evaluations, screen.width, sort)]
    tables += _tables(evaluations, comparisons) if full else comparison_tables(comparisons)
    texts = [screen.table(table) for table in tables]
    return "\n\n".join(filter(None, [*texts, papers_text(evaluations, screen) if full else ""]))


def papers_text(evaluations: Sequence[Evaluation], screen: Screen) -> str:
    """Return the papers' tables that have runs; "" where there is none."""
    return "\n\n".join(screen.table(table.as_text_table()) for table in tables_with_runs(evaluations))


def papers_named(evaluations: Sequence[Evaluation], runs: Sequence[Path], screen: Screen) -> str:
    """Return the commands that print the papers' tables that have runs; "" where there is none."""
    names = [table.name for table in tables_with_runs(evaluations)]
    where = " ".join(shlex.quote(str(path)) for path in runs)
    commands = [f"  emocache evaluate {where} --table {name}" for name in names]
    return screen.lines(["Beside the numbers of papers (--full prints all):", *commands]) if names else ""


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


def write_page(
    path: Path,
    evaluations: Sequence[Evaluation],
    runs: Sequence[Path],
    cache: str | None = None,
    media: Sequence[Path] = (),
) -> Path:
    """Write the report as one HTML file that needs no other, but for the media that a reader plays.

    Args:
        path: the file.
        evaluations: the results.
        runs: the folders that they are from.
        cache: with the corpora's manifests, for texts, links to media, and failures of streams; None: without them.
        media: corpus folders that clips are looked for in.

    Returns:
        The file's path.

    Raises:
        EmocacheError: a file that cannot be written.
    """
    from .page.rendering import render  # and all that draws, which whoever only wants scores need not wait for

    source = Source(path, None if cache is None else Cache(cache), media)
    text = render(evaluations, [str(folder) for folder in runs], source, cache or "store")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise EmocacheError(f"{path} cannot be written to: {error.strerror}; name another with --report") from error
    return path


def _tables(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> list[Table]:
    of_papers = [table for paper, own in paper_reports(evaluations) for table in paper.tables(own)]
    return [*result_tables(evaluations), *of_papers, *comparison_tables(comparisons)]
