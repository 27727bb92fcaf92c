"""`emocache evaluate` and `emocache composition`: the commands, which load the stage only when they run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Format = Literal["markdown", "csv", "latex", "json"]
Style = Literal["screen", "paper"]
Figures = Annotated[
    str,
    typer.Option("--figures", metavar="LIST", help="Kinds of files for the figures: png, pdf, svg, such as png,pdf."),
]
Styled = Annotated[
    Style, typer.Option("--style", help="paper: as wide as a column or a page, text of 8 pt, titles beside as .txt.")
]


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders that training wrote runs to.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write to; RUNS/evaluation if not given.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Also print experiment A minus experiment B, paired."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="Compare this metric, such as macro_f1 or ccc.valence, or all; if not given, the one that both"
            " experiments chose their epochs by. May be given again.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--table",
            metavar="TABLE",
            help="Print a paper's table with ours beside it, such as paper1/table2; writes nothing.",
        ),
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="Of --table; markdown if not given.")] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Where to write the page; DIR/report.html if not given."),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            metavar="DIR|URL",
            help="The cache, for the page's texts, links to media, and failures of streams.",
        ),
    ] = None,
    media: Annotated[
        list[Path] | None,
        typer.Option(
            "--media",
            metavar="DIR",
            help="A corpus folder that the page plays clips from, beside $EMOCACHE_DATA and data/; needs --cache."
            " May be given again.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Print every table: all metrics, by corpus and culture, and of papers.")
    ] = False,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="COLUMN", help="Sort the table by a column, such as macro_f1.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Also runs that newer ones supersede; see `emocache runs ls`.")
    ] = False,
    figures: Figures = "png",
    style: Styled = "screen",
) -> None:
    """Score stored predictions. Writes a page to read, tables, figures, and their numbers as CSV and JSON."""
    if table is None and form is not None:
        raise typer.BadParameter("is of one table; name it with --table", param_hint="--format")
    if table is not None and (as_json or compare is not None or out is not None or report is not None):
        raise typer.BadParameter(
            "prints that table alone; leave out --json, --compare, --out and --report", param_hint="--table"
        )
    if metrics and compare is None:
        raise typer.BadParameter("says what to compare; name two experiments with --compare A B", param_hint="--metric")
    if media and cache is None:
        raise typer.BadParameter(
            "needs the cache that says what lies where; name it with --cache", param_hint="--media"
        )
    from .output.documents import document, to_json
    from .output.figures.look import Look, parse_formats
    from .output.screen import screen
    from .papers.published.published_tables import check_table
    from .report import (
        check_places,
        compare_runs,
        evaluate_runs,
        paper_table,
        papers_named,
        summary_text,
        tables_text,
        write_page,
        write_report,
    )

    look = Look(style, parse_formats(figures))
    folder = out if out is not None else runs[0] / "evaluation"
    page = report or folder / "report.html"
    if table is None:
        check_places(folder, page, cache, media or ())
    else:
        check_table(table)
    evaluations = evaluate_runs(runs, all_, lambda line: typer.echo(line, err=True), compare or ())
    if table is not None:
        typer.echo(paper_table(evaluations, table, form or "markdown"), nl=False)
        return
    comparisons = compare_runs(evaluations, compare, metrics or ())
    place = screen()
    tables = tables_text(evaluations, comparisons, place, sort, full)  # a mistyped column is told before files are made
    write_report(folder, evaluations, comparisons, look)
    write_page(page, evaluations, runs, cache, media or ())
    if as_json:
        typer.echo(to_json(document(evaluations, comparisons)), nl=False)
    else:
        named = "" if full else papers_named(evaluations, runs, place)
        typer.echo("\n\n".join(filter(None, [summary_text(evaluations, place, folder, page), tables, named])))


def composition(
    root: Annotated[str, typer.Argument(metavar="CACHE", help="Cache folder, or URL of an object store.")],
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A corpus in it.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write to.")],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="COLUMN",
            help="A pie of this column or label; gender, speaker and emotion if not given. May be given again.",
        ),
    ] = None,
    figures: Figures = "png",
    style: Styled = "screen",
) -> None:
    """Draw what a corpus consists of as pies, and write the counts as CSV."""
    from ..cache import Cache
    from .output.figures.composition import COLUMNS, save_composition
    from .output.figures.look import Look, parse_formats

    look = Look(style, parse_formats(figures))
    for path in save_composition(out, Cache(root).manifest(corpus), columns or COLUMNS, look):
        typer.echo(f"written: {path}")
