"""The JSON document of results.json and `--json`; its keys are a contract."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...train.records.confusion import row_normalised
from ..scoring.ranking.comparison import Comparison
from ..scoring.result_groups import Result, flat_texts
from ..scoring.sanity import DIAGNOSTIC
from ..scoring.scored import Evaluation, Part, Scored
from ..scoring.statistics import Summary


def document(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = ()) -> dict[str, Any]:
    """Gather everything that evaluation found into one JSON object: `results`, and `comparisons` if asked for.

    Args:
        evaluations: the results.
        comparisons: those that were asked for.

    Returns:
        What `to_json` writes: a number that is undefined is null there, with its reason in `reasons` beside it.
    """
    whole: dict[str, Any] = {"results": [_result(evaluation) for evaluation in evaluations]}
    if comparisons:
        whole["comparisons"] = [_comparison(comparison) for comparison in comparisons]
    return whole


def to_json(value: dict[str, Any]) -> str:
    """Write the document as text; NaN, which JSON has not, as null."""
    return json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _result(evaluation: Evaluation) -> dict[str, Any]:
    result, record = evaluation.result, evaluation.result.first
    return {
        **_identity(result),
        "task": record.task,
        "targets": list(record.targets),
        "auxiliary": record.auxiliary,
        "protocol": record.protocol.name,
        "seeds": result.seeds,
        "folds": record.folds,
        "trials": result.trials,
        "trainings": result.trainings,
        "selection": result.selection,
        "coverage": result.coverage.model_dump(mode="json"),
        "incomplete": result.incomplete,
        "transductive": result.transductive,
        "missing_runs": [{"fold": fold, "seed": seed} for fold, seed in result.missing_runs],
        "warnings": [{"kind": kind, "text": text, "runs": n} for (kind, text), n in result.warnings.items()],
        **_scored(evaluation, result),
        "diagnostics": [name for name in evaluation.sanity if name in DIAGNOSTIC],
        "breakdown": [_part(part, result) for part in evaluation.breakdown],
        "fingerprints": {f"{s.corpus}/{s.name}": s.fingerprint for s in record.streams},
        "config": {key: value for key, value in flat_texts(record.config).items() if key != "seeds"},
    }


def _identity(result: Result) -> dict[str, Any]:
    return {
        "experiment": result.first.experiment,
        "corpus": result.corpus,
        "streams": result.streams,
        "setting": result.first.setting,
        "difference": result.difference,
        "marks": result.marks,
    }


def _part(part: Part, result: Result) -> dict[str, Any]:
    counts = {"utterances": part.utterances, "predicted": part.predicted}
    return {"column": part.column, "value": part.value, **counts, **_scored(part, result)}


def _scored(scored: Scored, result: Result) -> dict[str, Any]:
    return {
        "n_groups": scored.groups,
        "group_unit": scored.unit,
        "approximate": scored.approximate,
        "metrics": _summaries(scored.metrics),
        "sanity": {name: _summaries(metrics) for name, metrics in scored.sanity.items()},
        "confusion": _confusion(scored, result),
    }


def _summaries(metrics: dict[str, Summary]) -> dict[str, Any]:
    return {name: asdict(summary) for name, summary in metrics.items()}


def _confusion(scored: Scored, result: Result) -> dict[str, Any] | None:
    counts = scored.confusion
    if counts is None:
        return None
    normalised = row_normalised(counts).tolist()
    return {"classes": result.classes, "counts": counts.tolist(), "row_normalised": normalised}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "a": _identity(comparison.a),
        "b": _identity(comparison.b),
        "utterances": comparison.utterances,
        "n_groups": comparison.groups,
        "group_unit": comparison.unit,
        "approximate": comparison.approximate,
        "metrics": {name: asdict(difference) for name, difference in comparison.metrics.items()},
        "left_out": comparison.left_out,
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
