"""The pictures of one result, and what is to be known of where its numbers come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...train.records.metrics import metric_name
from ..output.cells import number
from ..output.figures.scatter import MOST_TARGETS, Panel
from ..papers.attention_figure import draw
from ..papers.attention_weights import read_attention
from ..papers.gate_figures import frequency_figure, similarity_figure
from ..papers.gates import heaviest, read_gates, similarity
from ..scoring.breakdowns.clip_losses import Clip, Track, tracks
from ..scoring.breakdowns.histories import Curve, curves
from ..scoring.breakdowns.subgroups import Subgroup
from ..scoring.result_groups import Result, flat_texts
from ..scoring.scored import Evaluation
from ..scoring.stored_predictions import Predictions
from . import charts
from .headline import worst_first
from .pictures import Album, Picture

MOST_BARS = 24
"""Speakers in a picture; the table has all."""


MOST_LINES = 120
"""Curves in the table below a picture of them."""


@dataclass(frozen=True)
class Details:
    """One result's own section: pictures by heading, and its provenance as {what: lines}."""

    id: str
    name: str
    pictures: Mapping[str, Sequence[Picture]]


@dataclass(frozen=True)
class Provenance:
    """All that decides a result's numbers, as its runs recorded it."""

    name: str
    streams: Sequence[Sequence[str]]  # corpus, name, fingerprint, weights
    facts: Mapping[str, str]
    settings: Mapping[str, str]
    commands: Sequence[str]


def details(
    place: int,
    name: str,
    evaluation: Evaluation,
    seeds: Sequence[Predictions],
    own_clips: Sequence[Clip],
    speakers: Sequence[Subgroup],
    metrics: Sequence[str],
    album: Album,
) -> Details:
    """Draw all that one result has numbers for.

    Args:
        place: of the result, for the section's id.
        name: of the result.
        evaluation: it, with its numbers.
        seeds: its predictions, see `pooled_predictions`.
        own_clips: its test utterances, the largest loss first.
        speakers: its scores by speaker.
        metrics: that speakers are shown by.
        album: makes the pictures.

    Returns:
        The section; headings without pictures are left out.
    """
    made = {
        "Confusion": _confusion(name, evaluation, album),
        "Over time": _over_time(name, evaluation.result, own_clips, album),
        "Predicted against true": _scatter(name, evaluation, seeds, album),
        "Learning curves": _curves(name, curves(evaluation.result), album),
        "By speaker": [
            picture for metric in metrics for picture in _speakers(name, evaluation, speakers, metric, album)
        ],
        "Gates and attention": _kept(name, evaluation.result, album),
    }
    return Details(f"system{place}", name, {heading: own for heading, own in made.items() if own})


def _confusion(name: str, evaluation: Evaluation, album: Album) -> list[Picture]:
    counts, classes = evaluation.confusion, evaluation.result.classes
    if counts is None:
        return []
    rows = [[true, *map(str, own)] for true, own in zip(classes, counts.tolist(), strict=True)]
    label = f"Confusion matrix of {name}: of each true class, the share that each class was predicted for"
    caption = "Share of the true class, over all folds and seeds."
    return [album.picture(charts.confusion(counts, classes), label, caption, ["true \\ predicted", *classes], rows)]


def _over_time(name: str, result: Result, own_clips: Sequence[Clip], album: Album) -> list[Picture]:
    """The clips with the largest, the median and the least loss."""
    if result.first.task != "frame_regression" or not own_clips:
        return []
    chosen = dict.fromkeys([0, len(own_clips) // 2, len(own_clips) - 1])
    told = ("largest", "median", "least")
    made = []
    for place, which in zip(chosen, told, strict=False):
        clip = own_clips[place]
        found = tracks(result, clip.corpus, clip.id)
        if found:
            label = f"True and predicted values over time of {clip.corpus}/{clip.id} by {name}"
            caption = f"{clip.corpus}/{clip.id}: the {which} loss, {number(clip.loss)}. Grey: no label."
            headings, rows = (
                ["target", "labelled stamps", "mean true", "mean predicted"],
                [_means(one) for one in found],
            )
            made.append(album.picture(charts.over_time(found), label, caption, headings, rows))
    return made


def _means(track: Track) -> list[str]:
    known = ~np.isnan(track.reference)
    if not known.any():
        return [track.target, "0", "–", "–"]
    sides = (track.reference, track.prediction)
    return [track.target, str(int(known.sum())), *(number(float(np.mean(side[known]))) for side in sides)]


def _scatter(name: str, evaluation: Evaluation, seeds: Sequence[Predictions], album: Album) -> list[Picture]:
    result = evaluation.result
    if result.first.task not in ("regression", "frame_regression") or len(result.targets) > MOST_TARGETS:
        return []
    rho = {target: evaluation.metrics[metric_name("spearman", target)].pooled for target in result.targets}
    panels = [Panel(t, own.reference, own.prediction, rho[t]) for t, own in seeds[0].samples.items()]
    if not any(len(panel.reference) for panel in panels):
        return []
    rows = [[panel.target, str(len(panel.reference)), number(panel.rho)] for panel in panels]
    label = f"Predicted against true values of {name}"
    caption = f"First seed, all folds; at most {charts.MOST_POINTS} points are drawn. Line: predicted = true."
    return [album.picture(charts.scatter(panels), label, caption, ["target", "samples", "Spearman (all seeds)"], rows)]


def _curves(name: str, found: Sequence[Curve], album: Album) -> list[Picture]:
    if not found:
        return []
    names = list(dict.fromkeys(curve.name for curve in found))
    rows = [
        [f"fold {c.fold} seed {c.seed}", c.phase, c.name, str(len(c.epochs)), *map(number, (c.values[0], c.values[-1]))]
        for c in found[:MOST_LINES]
    ]
    label = f"Learning curves of {name}: {', '.join(names)} by epoch, a line for each run"
    headings = ["run", "phase", "number", "epochs", "first", "last"]
    return [album.picture(charts.learning_curves(found), label, "A line for each fold and seed.", headings, rows)]


def _speakers(
    name: str, evaluation: Evaluation, speakers: Sequence[Subgroup], metric: str, album: Album
) -> list[Picture]:
    known = worst_first(speakers, metric)
    if not known:
        return []
    ordered = known[:MOST_BARS]
    names, values = [group.value for group in ordered], [group.scores[metric] for group in ordered]
    figure = charts.bars(names, values, metric, evaluation.metrics[metric].pooled)
    left = f" The worst {MOST_BARS} of {len(known)}." if len(known) > MOST_BARS else ""
    rows = [[group.value, str(group.utterances), number(group.scores[metric])] for group in ordered]
    label = f"{metric} of {name} for each speaker, the worst first"
    return [album.picture(figure, label, f"{metric} by speaker.{left}", ["speaker", "utterances", metric], rows)]


def _kept(name: str, result: Result, album: Album) -> list[Picture]:
    """The figures of the papers' reports, as they are drawn for paper."""
    made = []
    if (gates := read_gates(result)) is not None:
        frequent = f"Channels of {name} that are among the heaviest of a culture"
        alike = f"Similarity of the cultures' mean gate weights in {name}"
        top = [
            [culture, ", ".join(map(str, own))]
            for culture, own in zip(gates.cultures, heaviest(gates.mean).tolist(), strict=True)
        ]
        alike_rows = [[c, *map(number, own)] for c, own in zip(gates.cultures, similarity(gates.mean), strict=True)]
        made += [
            album.picture(frequency_figure([gates]), frequent, f"{frequent}.", ["culture", "ten heaviest"], top, True),
            album.picture(similarity_figure([gates]), alike, f"{alike}.", ["", *gates.cultures], alike_rows, True),
        ]
    if (found := read_attention(result)) is not None:
        label = f"Attention weights of {name} over words or frames of test utterances"
        rows = [
            [clip, " → ".join(classes), str(int(own.max(axis=1).argmax()) + 1), number(float(own.max()))]
            for clip, classes, own in zip(found.utterances, found.classes, found.weights, strict=True)
        ]
        headings = ["utterance", "true → predicted", "heaviest position", "its weight"]
        made.append(album.picture(draw(found), label, f"{label}.", headings, rows[:MOST_LINES], True))
    return made


def provenance(name: str, result: Result, commands: Sequence[str]) -> Provenance:
    """Gather all that decides a result's numbers, as its runs recorded it."""
    first = result.first
    streams = [
        [s.corpus, s.name, s.fingerprint, "not recorded" if s.weights is None else s.weights or "none"]
        for s in first.streams
    ]
    facts = {
        "setting": first.setting,
        "protocol": f"{first.protocol.name}, {first.folds} folds, seeds {', '.join(map(str, result.seeds))}",
        "split": first.split_sha256,
        "features": first.item_digest,
        **{f"manifest of {corpus}": digest for corpus, digest in first.manifests.items()},
        "trained with": ", ".join(f"{key} {value}" for key, value in first.versions.items()),
        "device": first.device or "not recorded",
        "parameters": f"{first.parameters:,}",
        "seconds": f"{sum(run.record.seconds for run in result.runs.values()):.0f} in {len(result.runs)} runs",
        "choice": result.selection or f"epoch by {first.selection.metric}",
    }
    settings = {key: value for key, value in flat_texts(first.config).items() if value not in ("null", "")}
    return Provenance(name, streams, facts, settings, commands)
