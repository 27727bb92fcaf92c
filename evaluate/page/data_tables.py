"""The tables that a reader sorts and filters, as data: the page's script makes rows of them, a screenful at a time."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..output.cells import counted, interval, mean_std, number, p_value, pooled_interval, setting_apart
from ..scoring.breakdowns.clip_losses import Clip
from ..scoring.breakdowns.subgroups import ClassScore, Subgroup
from ..scoring.ranking.contests import Contest
from ..scoring.ranking.standings import chance
from ..scoring.result_groups import Result
from ..scoring.scored import Evaluation
from .headline import worst_first
from .media_links import Source

Table = dict[str, Any]
"""`caption`, `columns` and `rows`; a cell is a text, [number or null, its text], or [element, address] of a medium."""

MOST_CLIPS = 50
"""Of a result: those with the largest loss."""


_ALIKE = ("corpus", "culture", "of")
"""Columns that tell nothing where every row has the same in them."""

STATIC_ROWS = 50
"""Of a table, where no script runs: the first of those that are shown at first."""


def _table(
    caption: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], systems: int = 2, **preset: str
) -> Table:
    """`columns` are {heading: kind}, a kind being "text", "facet" (a text to choose by), "number" or "media".

    Of `systems` there are so many in the page; a single one is not named in every row.
    """
    told = [{"label": label, "kind": kind, "preset": preset.get(label, "")} for label, kind in columns.items()]
    alike = {k for k, one in enumerate(told) if one["label"] in _ALIKE and len({str(row[k]) for row in rows}) < 2}
    alike |= {k for k, one in enumerate(told) if one["label"] == "system" and systems < 2}
    alike |= {k for k in range(len(told)) if not any(row[k] for row in rows)}
    kept = [k for k in range(len(told)) if k == 0 or k not in alike]
    return {"caption": caption, "columns": [told[k] for k in kept], "rows": [[row[k] for k in kept] for row in rows]}


def static(table: Table) -> Table:
    """Return what is shown of a table at first, without the columns that are chosen by: for where no script runs."""
    columns, rows = table["columns"], table["rows"]
    preset = {k: one["preset"] for k, one in enumerate(columns) if one["preset"]}
    chosen = {k: value for k, value in preset.items() if any(row[k] == value for row in rows)}
    fit = [row for row in rows if all(row[k] == value for k, value in chosen.items())]
    kept = [k for k in range(len(columns)) if k == 0 or k not in chosen]
    return {
        "caption": table["caption"], "columns": [columns[k] for k in kept], "chosen": chosen.values(),
        "rows": [[row[k] for k in kept] for row in fit[:STATIC_ROWS]], "fit": len(fit), "all": len(rows),
    }  # fmt: skip


def _number(value: float, text: str | None = None) -> list[Any]:
    return [None if math.isnan(value) else value, number(value) if text is None else text]


def results_table(evaluations: Sequence[Evaluation], names: Sequence[str], main: Sequence[set[str]]) -> Table:
    """Every metric of every result; `main` has of each the metrics that contests are about."""
    rows = []
    for evaluation, name, of_contests in zip(evaluations, names, main, strict=True):
        result, coverage = evaluation.result, evaluation.result.coverage
        for metric, summary in evaluation.metrics.items():
            guess, value = chance(evaluation, metric)
            numbers = [
                _number(summary.pooled, pooled_interval(summary)),
                _number(value, f"{number(value)} {guess}".strip()),
                _number(summary.mean, mean_std(summary)),
                _number(coverage.predicted / max(1, coverage.test), f"{coverage.predicted}/{coverage.test}"),
            ]
            kind = "main" if metric in of_contests else "other"
            texts = [result.streams_told, result.corpus, kind, ", ".join(result.marks)]
            rows.append([name, metric, *numbers, *texts])
    columns = {
        "system": "text", "metric": "facet", "pooled [95 %]": "number", "chance": "number",
        "mean ± std over folds": "number", "coverage": "number", "streams": "text", "corpus": "facet", "kind": "facet",
        "marks": "text",
    }  # fmt: skip
    return _table("Results", columns, rows, kind="main")


def pairs_table(contests: Sequence[Contest], titles: Sequence[str], names: Sequence[Sequence[str]]) -> Table:
    """All pairs of every contest, the one with the better score first; `names` are of the entries of each."""
    rows = []
    for contest, title, own in zip(contests, titles, names, strict=True):
        for pair in contest.pairs:
            better, than = own[pair.a], own[pair.b]
            if (found := pair.difference) is None:
                rows.append([better, [None, "–"], than, pair.why, [None, "–"], title])
                continue
            value, (low, high) = found.difference, found.ci95
            if value < 0:
                better, than, value, low, high = than, better, -value, -high, -low
            shown = f"{number(value, True)} {interval((low, high), True)}"
            told = "apart" if pair.apart else "not told apart"
            p = _number(found.wilcoxon_holm, p_value(found.wilcoxon_holm))
            rows.append([better, _number(value, shown), than, told, p, title])
    columns = {
        "better": "text", "difference [95 %]": "number", "than": "text", "verdict": "text",
        "Wilcoxon p (Holm)": "number", "of": "facet",
    }  # fmt: skip
    return _table("All pairs", columns, rows)


def groups_table(found: Mapping[str, Sequence[Subgroup]], metrics: Mapping[str, set[str]], first: str) -> Table:
    """Scores of every speaker and culture, the worst first; both mappings by the results' names."""
    rows = []
    for name, groups in found.items():
        for metric in sorted(metrics[name]):
            for group in worst_first(groups, metric):
                count = _number(group.utterances, str(group.utterances))
                rows.append([group.value, _number(group.scores[metric]), count, group.column, metric, name])
    columns = {
        "value": "text", "score": "number", "utterances": "number", "by": "facet", "metric": "facet", "system": "facet",
    }  # fmt: skip
    return _table("Speakers and cultures", columns, rows, len(found), system=first)


def classes_table(found: Mapping[str, Sequence[ClassScore]], first: str) -> Table:
    """Recall, precision and F1 of every class, by the results' names, of which `first` is shown at first."""
    rows = []
    for name, own in found.items():
        for one in own:
            numbers = map(_number, (one.recall, one.precision, one.f1))
            rows.append([one.name, *numbers, one.taken_for, _number(one.utterances, str(one.utterances)), name])
    columns = {
        "class": "facet", "recall": "number", "precision": "number", "F1": "number", "mostly taken for": "text",
        "predictions": "number", "system": "facet",
    }  # fmt: skip
    return _table("Classes", columns, rows, len(found), system=first)


def clips_table(found: Mapping[str, Sequence[Clip]], source: Source, first: str) -> Table:
    """The clips with the largest loss of every result, with text and media where they are at hand."""
    rows = []
    for name, own in found.items():
        for clip in own[:MOST_CLIPS]:
            utterance = source.utterance(clip.corpus, clip.id)
            text = (utterance.text or "") if utterance else ""
            link = source.link(clip.corpus, utterance) if utterance else None
            said = clip.prediction + (" (no features: the prior)" if clip.missing else "")
            told = [_number(clip.loss), clip.reference, said, text, clip.speaker, clip.culture, name]
            rows.append([f"{clip.corpus}/{clip.id}", list(link) if link else None, *told])
    columns = {
        "clip": "text", "play": "media", "loss": "number", "true": "text", "predicted": "text", "text": "text",
        "speaker": "text", "culture": "facet", "system": "facet",
    }  # fmt: skip
    return _table("Clips with the largest loss", columns, rows, len(found), system=first)


def failures_table(evaluations: Sequence[Evaluation], names: Sequence[str], source: Source) -> Table:
    """Everything that was missing, with the reason where it is known: features, runs, labels."""
    rows = [
        [*line, name]
        for evaluation, name in zip(evaluations, names, strict=True)
        for line in [*_features(evaluation.result, source), *_labels_and_runs(evaluation.result)]
    ]
    columns = {"which": "text", "what": "facet", "why": "text", "stream": "facet", "system": "facet"}
    return _table("Missing", columns, rows, len(names))


def _features(result: Result, source: Source) -> Iterator[list[str]]:
    """A line for each test utterance and stream without features, and one for each other part."""
    first, streams = result.first, result.streams_told
    failed = {stream: source.failures(stream) or {} for stream in first.streams}
    policy = f"no features; predicted by the rule {first.missing_policy!r}" if first.missing_policy else "no features"
    for key in result.coverage.missing:
        why = {s.name: own[key.removeprefix(f"{s.corpus}/")] for s, own in failed.items()
               if key.removeprefix(f"{s.corpus}/") in own}  # fmt: skip
        told = {name: f"{reason}: {detail}; {policy}" for name, (reason, detail) in why.items()}
        for stream, reason in (told or {streams: policy}).items():
            yield [key, "test utterance", reason, stream]
    counts: Counter[str] = Counter()
    for run in result.runs.values():
        counts.update(run.record.without_features)
    for part, count in counts.items():
        if count:
            yield [str(count), f"{part} utterances", "no features, counted over all runs", streams]


def _labels_and_runs(result: Result) -> Iterator[list[str]]:
    for label, count in result.first.dropped_classes.items():
        yield [label, "label", f"{counted(count, 'utterance')} left out by the label map", ""]
    if result.first.unlabelled:
        yield [str(result.first.unlabelled), "utterances", "without a label", ""]
    for fold, seed in result.missing_runs:
        yield [f"fold {fold} seed {seed}", "run", "not trained", ""]


def name_of(result: Result) -> str:
    """Name a result where its corpus is told beside it."""
    return " ".join(filter(None, [result.first.experiment, setting_apart(result)]))
