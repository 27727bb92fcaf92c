"""The whole stage: runs in, files out."""

import re
from collections.abc import Sequence
from pathlib import Path

from ..cache import EmocacheError
from .comparison import Comparison, compare
from .documents import document, to_json
from .figures.confusion_matrix import save_confusion_matrix
from .results import group
from .runs import discover
from .scoring import Evaluation, evaluate_result
from .tables import comparison_tables, result_tables, to_csv


def evaluate_runs(paths: Sequence[Path]) -> list[Evaluation]:
    """Every result that the runs below the paths make up, scored.

    Raises:
        EmocacheError: no runs, or runs that cannot be read or contradict each other.
    """
    return [evaluate_result(result) for result in group(discover(paths))]


def compare_runs(evaluations: Sequence[Evaluation], names: tuple[str, str] | None) -> list[Comparison]:
    """The comparisons of two experiments, see `compare`; none without names."""
    return compare(evaluations, *names) if names else []


def tables_as_text(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> str:
    """Every table, for a terminal."""
    return "\n\n".join(table.text() for table in [*result_tables(evaluations), *comparison_tables(comparisons)])


def write_report(out: Path, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> list[Path]:
    """Write table.md, table.csv, results.json and a confusion matrix for every classification; returns their paths.

    Raises:
        EmocacheError: a folder that cannot be written to.
    """
    tables = [*result_tables(evaluations), *comparison_tables(comparisons)]
    texts = {
        "table.md": "# Results\n\n" + "\n\n".join(table.markdown() for table in tables) + "\n",
        "table.csv": to_csv(evaluations),
        "results.json": to_json(document(evaluations, comparisons)),
    }
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            written.append(out / name)
            written[-1].write_text(text, encoding="utf-8", newline="\n")
        for evaluation in evaluations:
            if evaluation.confusion is not None:
                result = evaluation.result
                written.append(out / f"confusion-{_safe(result.first.experiment)}-{_safe(result.first.setting)}.png")
                save_confusion_matrix(written[-1], evaluation.confusion, result.classes, _title(evaluation))
    except OSError as error:
        raise EmocacheError(f"{out} cannot be written to: {error.strerror}; name another folder with --out") from error
    return written


def _title(evaluation: Evaluation) -> str:
    result = evaluation.result
    named = ", ".join(filter(None, (result.first.experiment, result.corpus, "+".join(result.streams), *result.marks)))
    return f"{named}\nshare of the true class, and count over {len(result.folds)} folds x {len(result.seeds)} seeds"


def _safe(name: str) -> str:
    """A name that stays inside the folder, whatever a run.json says."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
