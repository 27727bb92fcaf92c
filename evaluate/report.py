"""The whole stage: runs in, files out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..cache import EmocacheError
from .output.documents import document, to_json
from .output.figures.bars import save_share_bars
from .output.figures.confusion_matrix import save_confusion_matrices
from .output.figures.scatter import save_scatters
from .output.printed_tables import Table, comparison_tables, result_tables
from .output.spreadsheet import to_csv
from .papers.attention_figure import save_attention
from .papers.embedding_map import save_embedding_maps
from .papers.emotion_share import emotion_share_csv, emotion_share_tables, pairs
from .papers.gate_figures import save_channel_gates
from .scoring.comparison import Comparison, compare
from .scoring.result_groups import group
from .scoring.run_records import discover
from .scoring.scored import Evaluation, evaluate_result

FIGURES: tuple[Callable[[Path, Sequence[Evaluation]], list[Path]], ...] = (
    save_confusion_matrices,
    save_channel_gates,
    save_scatters,
    save_share_bars,
    save_embedding_maps,
    save_attention,
)
"""Each writes what it can draw of the evaluations into a folder, and returns the files' paths."""


def evaluate_runs(paths: Sequence[Path]) -> list[Evaluation]:
    """Every result that the runs below the paths make up, scored.

    Raises:
        EmocacheError: no runs, or runs that cannot be read or contradict each other.
    """
    return [evaluate_result(result) for result in group(discover(paths))]


def compare_runs(
    evaluations: Sequence[Evaluation], names: tuple[str, str] | None, metrics: Sequence[str] = ()
) -> list[Comparison]:
    """The comparisons of two experiments, see `compare`; none without names."""
    return compare(evaluations, *names, metrics) if names else []


def tables_as_text(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> str:
    """Every table, for a terminal."""
    return "\n\n".join(table.text() for table in _tables(evaluations, comparisons))


def write_report(out: Path, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> list[Path]:
    """Write table.md, table.csv, results.json and every figure that there are numbers for; returns their paths.

    Raises:
        EmocacheError: a folder that cannot be written to.
    """
    tables, shares = _tables(evaluations, comparisons), pairs(evaluations)
    texts = {
        "table.md": "# Results\n\n" + "\n\n".join(table.markdown() for table in tables) + "\n",
        "table.csv": to_csv(evaluations),
        "results.json": to_json(document(evaluations, comparisons)),
        **({"emotion-share.csv": emotion_share_csv(shares)} if shares else {}),
    }
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            written.append(out / name)
            written[-1].write_text(text, encoding="utf-8", newline="\n")
        for figure in FIGURES:
            written += figure(out, evaluations)
    except OSError as error:
        raise EmocacheError(f"{out} cannot be written to: {error.strerror}; name another folder with --out") from error
    return written


def _tables(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> list[Table]:
    shares = emotion_share_tables(pairs(evaluations))
    return [*result_tables(evaluations), *shares, *comparison_tables(comparisons)]
