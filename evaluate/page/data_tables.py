"""The tables that a reader sorts and filters, as data: the page's script makes rows of them, a screenful at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..output.cells import interval, mean_std, number, p_value, pooled_interval, setting_apart
from ..scoring.breakdowns.clip_losses import Clip
from ..scoring.breakdowns.subgroups import ClassScore, Subgroup
from ..scoring.contests import Contest
from ..scoring.result_groups import Result
from ..scoring.scored import Evaluation
from .headline import chance
from .media_links import Source

Table = dict[str, Any]
"""`caption`, `columns` and `rows`; a cell is a text, [number or null, its text], or [element, address] of a medium."""

MOST_CLIPS = 50
"""Of a result: those with the largest loss."""


def _table(caption: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], **preset: str) -> Table:
    """`columns` are {heading: kind}, a kind being "text", "facet" (a text to choose by), "number" or "media"."""
    told = [{"label": label, "kind": kind, "preset": preset.get(label, "")} for label, kind in columns.items()]
    return {"caption": caption, "columns": told, "rows": rows}


def _number(value: float, text: str | None = None) -> list[Any]:
    return [None if math.isnan(value) else value, number(value) if text is None else text]


def results_table(evaluations: Sequence[Evaluation], names: Sequence[str], main: Sequence[set[str]]) -> Table:
    """Every metric of every result; `main` has of each the metrics that contests are about."""
    rows = []
    for evaluation, name, of_contests in zip(evaluations, names, main, strict=True):
        result = evaluation.result
        coverage = result.coverage
        for metric, summary in evaluation.metrics.items():
            guess, value = chance(evaluation, metric)
            rows.append([
                name, result.corpus, "+".join(result.streams), metric,
                "main" if metric in of_contests else "other",
                _number(summary.pooled, pooled_interval(summary)), _number(summary.mean, mean_std(summary)),
                _number(value, f"{number(value)} {guess}".strip()),
                _number(coverage.predicted / max(1, coverage.test), f"{coverage.predicted}/{coverage.test}"),
                ", ".join(result.marks),
            ])  # fmt: skip
    columns = {
        "system": "text", "corpus": "facet", "streams": "text", "metric": "facet", "kind": "facet",
        "pooled [95 %]": "number", "mean ± std over folds": "number", "chance": "number", "coverage": "number",
        "marks": "text",
    }  # fmt: skip
    return _table("Results", columns, rows, kind="main")


def pairs_table(contests: Sequence[Contest], titles: Sequence[str], names: Sequence[Sequence[str]]) -> Table:
    """All pairs of every contest; `names` are of the entries of each."""
    rows = []
    for contest, title, own in zip(contests, titles, names, strict=True):
        for pair in contest.pairs:
            a, b = own[pair.a], own[pair.b]
            found = pair.difference
            if found is None:
                rows.append([title, a, b, [None, "–"], pair.why, [None, "–"]])
                continue
            shown = f"{number(found.difference, True)} {interval(found.ci95, True)}"
            told = "apart" if pair.apart else "not told apart"
            rows.append(
                [
                    title,
                    a,
                    b,
                    _number(found.difference, shown),
                    told,
                    _number(found.wilcoxon_holm, p_value(found.wilcoxon_holm)),
                ]
            )
    columns = {
        "of": "facet", "better": "text", "than": "text", "difference [95 %]": "number", "verdict": "text",
        "Wilcoxon p (Holm)": "number",
    }  # fmt: skip
    return _table("All pairs", columns, rows)


def groups_table(found: Mapping[str, Sequence[Subgroup]], metrics: Mapping[str, set[str]], first: str) -> Table:
    """Scores of every speaker and culture; both mappings by the results' names, of which `first` is shown at first."""
    rows = [
        [name, group.column, group.value, _number(group.utterances, str(group.utterances)), metric, _number(value)]
        for name, groups in found.items()
        for group in groups
        for metric, value in group.scores.items()
        if metric in metrics.get(name, ())
    ]
    columns = {
        "system": "facet", "by": "facet", "value": "text", "utterances": "number", "metric": "facet", "score": "number",
    }  # fmt: skip
    return _table("Speakers and cultures", columns, rows, system=first)


def classes_table(found: Mapping[str, Sequence[ClassScore]], first: str) -> Table:
    """Recall, precision and F1 of every class, by the results' names, of which `first` is shown at first."""
    rows = [
        [
            name,
            one.name,
            _number(one.utterances, str(one.utterances)),
            *map(_number, (one.recall, one.precision, one.f1)),
            one.taken_for,
        ]
        for name, own in found.items()
        for one in own
    ]
    columns = {
        "system": "facet", "class": "facet", "predictions": "number", "recall": "number", "precision": "number",
        "F1": "number", "mostly taken for": "text",
    }  # fmt: skip
    return _table("Classes", columns, rows, system=first)


def clips_table(found: Mapping[str, Sequence[Clip]], source: Source, first: str) -> Table:
    """The clips with the largest loss of every result, of which `first` is shown at first."""
    rows = []
    for name, own in found.items():
        for clip in own[:MOST_CLIPS]:
            utterance = source.utterance(clip.corpus, clip.id)
            text = (utterance.text or "") if utterance else ""
            link = source.link(clip.corpus, utterance) if utterance else None
            said = clip.prediction + (" (no features: the prior)" if clip.missing else "")
            rows.append([name, f"{clip.corpus}/{clip.id}", clip.speaker, clip.culture, _number(clip.loss),
                         clip.reference, said, text, list(link) if link else None])  # fmt: skip
    columns = {
        "system": "facet", "clip": "text", "speaker": "text", "culture": "facet", "loss": "number", "true": "text",
        "predicted": "text", "text": "text", "play": "media",
    }  # fmt: skip
    return _table("Clips with the largest loss", columns, rows, system=first)


def failures_table(evaluations: Sequence[Evaluation], names: Sequence[str], source: Source) -> Table:
    """Everything that was missing, with the reason where it is known: features, runs, labels."""
    rows: list[list[Any]] = []
    for evaluation, name in zip(evaluations, names, strict=True):
        result, first = evaluation.result, evaluation.result.first
        streams = [(f"{s.corpus}/{s.name}", source.failures(s)) for s in first.streams]
        for missing in result.coverage.missing:
            bare = missing.removeprefix(f"{first.corpora[0]}/")
            why = {s: own[bare] for s, own in streams if own and bare in own}
            policy = f"predicted by the rule {first.missing_policy!r}" if first.missing_policy else ""
            for stream, (reason, detail) in (why or {"+".join(result.streams): ("no features", policy)}).items():
                rows.append([name, "test utterance", stream, missing, f"{reason}: {detail}".removesuffix(": ")])
        without: dict[str, int] = {}
        for run in result.runs.values():
            for part, count in run.record.without_features.items():
                without[part] = without.get(part, 0) + count
        for part, count in without.items():
            if count:
                rows.append(
                    [
                        name,
                        f"{part} utterances",
                        "+".join(result.streams),
                        str(count),
                        "no features, over all runs: left out of training",
                    ]
                )
        for label, count in first.dropped_classes.items():
            rows.append([name, "label", "", label, f"{count} utterances left out by the label map"])
        if first.unlabelled:
            rows.append([name, "label", "", str(first.unlabelled), "utterances without a label"])
        for fold, seed in result.missing_runs:
            rows.append([name, "run", "", f"fold {fold} seed {seed}", "not trained"])
    columns = {"system": "facet", "what": "facet", "stream": "text", "which": "text", "why": "text"}
    return _table("Missing", columns, rows)


def label(result: Result) -> str:
    """Name a result where its corpus is told beside it."""
    return " ".join(filter(None, [result.first.experiment, setting_apart(result)]))
