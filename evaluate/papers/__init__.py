"""The reports of single papers, which an experiment's `report` asks for: one entry each in `PAPERS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ..output.figures.look import Look
from ..output.text_table import Table
from ..scoring.result_groups import Result
from ..scoring.scored import Evaluation

PAPERS: dict[str, str] = {
    "emotion_share": "share_tables",
    "gates": "gate_figures",
    "attention": "attention_figure",
    "embeddings": "embedding_map",
    "enrolment": "enrolment_curve",
}
"""{what `report` names: the module of this folder whose `REPORT` it is}; loaded when a result asks for it."""

OF_KEPT = {"gate": "gates", "attention": "attention", "embedding": "embeddings"}
"""{what `keep` stores: the report that is made of it}."""


@dataclass(frozen=True)
class PaperReport:
    """One paper's tables, texts and figures, each made of the evaluations that ask for them."""

    tables: Callable[[Sequence[Evaluation]], list[Table]] = lambda _: []
    texts: Callable[[Sequence[Evaluation]], dict[str, str]] = lambda _: {}  # {name of the file: its text}
    figures: tuple[Callable[[Path, Sequence[Evaluation], Look], list[Path]], ...] = ()  # with the CSVs of their numbers


def reports_of(result: Result) -> list[str]:
    """Return the papers that a result's runs ask for: by `report`, or by what they `keep`."""
    # Files from before `report` named these papers say `keep` alone, as do the runs that were stored from them.
    kept = [name for run in result.runs.values() for name in run.record.config.get("keep", ())]
    return list(dict.fromkeys([*result.report, *(OF_KEPT[name] for name in kept if name in OF_KEPT)]))


def asking(paper: str, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations of the results that ask for a paper's report."""
    return [evaluation for evaluation in evaluations if paper in reports_of(evaluation.result)]


def paper_reports(evaluations: Sequence[Evaluation]) -> list[tuple[PaperReport, list[Evaluation]]]:
    """Return every paper's report that some evaluations ask for, with these, in the order of `PAPERS`."""
    asked = {paper: own for paper in PAPERS if (own := asking(paper, evaluations))}
    return [(import_module(f".{PAPERS[paper]}", __name__).REPORT, own) for paper, own in asked.items()]
