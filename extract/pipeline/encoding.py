"""One batch of clips through every encoder that lacks some of it."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from ...cache import EmocacheError, InputFailure, Item, StreamWriter
from ...cache.device import is_device_lost, is_out_of_memory
from ..encoders.encoder import Clip, Encoder
from .batching import Budget

Result = Item | Mapping[str, Any]
"""The part of an utterance that a stream stores: frames, or the row of a table."""


@dataclass(frozen=True)
class Target:
    """A stream to fill: which layer of which encoder it takes."""

    encoder: Encoder
    layer: int | None
    writer: StreamWriter


@dataclass
class Encoded:
    """The outcome of a batch.

    Attributes:
        items, failures: {stream: {id: what it stores, or why there is nothing to store}}.
        encoded: utterances that went through an encoder, once per encoder.
        unresolved: {id: cause} outside the input.
        spent: {encoder: seconds that it took}. waited: seconds for clips that were not decoded yet.
    """

    items: dict[str, dict[str, Result]] = field(default_factory=dict)
    failures: dict[str, dict[str, InputFailure]] = field(default_factory=dict)
    encoded: int = 0
    unresolved: dict[str, str] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    waited: float = 0.0


def encode_batch(
    clips: Sequence[Clip],
    unreadable: Mapping[str, str],
    wanted: Mapping[str, set[str]],
    streams: Mapping[str, Target],
    costs: Mapping[str, float],
    budget: Budget,
) -> Encoded:
    """Encode a batch.

    Args:
        clips: the batch, with what is wrong with their inputs.
        unreadable: {id: cause} of the clips whose media could not be read for a reason outside the input; encoders of
            audio and video leave them out.
        wanted: {stream: ids it lacks}.
        streams: {name: Target} of all streams of `wanted`.
        costs: {id: cost}, see `Encoder.cost`.
        budget: told what batches took, and when one did not fit.

    Returns:
        What each stream stores of each clip, and what could not be encoded.
    """
    encoded = Encoded(unresolved=dict(unreadable))
    by_encoder: dict[int, list[str]] = {}
    for stream in wanted:
        by_encoder.setdefault(id(streams[stream].encoder), []).append(stream)
    for names in by_encoder.values():
        encoder = streams[names[0]].encoder
        # What cannot be read now may be read later: such clips get no failure, they stay missing.
        lost = unreadable if {"audio", "video", "pictures"} & set(encoder.inputs) else {}
        lacking = [c for c in clips if c.id not in lost and any(c.id in wanted[name] for name in names)]
        faults = {c.id: c.faults[i] for c in lacking for i in encoder.inputs if i in c.faults}
        todo = [clip for clip in lacking if clip.id not in faults]
        todo_layers = [streams[name].layer for name in names]
        # One pass of the model serves all its layers that are asked for.
        begun = time.monotonic()
        results = _encode(encoder, todo, todo_layers, costs, budget, encoded)
        encoded.spent[encoder.name] = time.monotonic() - begun
        found = {**faults, **{clip.id: result for clip, result in zip(todo, results, strict=True)}}
        for name in names:
            for utterance in wanted[name] & found.keys():
                result = found[utterance]
                if isinstance(result, InputFailure):
                    encoded.failures.setdefault(name, {})[utterance] = result
                elif result is not None:
                    encoded.items.setdefault(name, {})[utterance] = result[streams[name].layer]
    return encoded


def one_line(error: Exception) -> str:
    """The error's message without line breaks: CUDA's messages have several lines."""
    return " ".join(str(error).split())


def end_if_lost(error: Exception, what: str) -> None:
    """Raise an EmocacheError where the error says that the device is gone."""
    if is_device_lost(error):
        raise EmocacheError(
            f"{what}: the device failed, and nothing runs on it any more ({one_line(error)}); what was finished is"
            " stored: run the same command again, which goes on from there"
        ) from error


def _encode(
    encoder: Encoder,
    clips: list[Clip],
    layers: list[int | None],
    costs: Mapping[str, float],
    budget: Budget,
    encoded: Encoded,
    alone: bool = False,
) -> list[Mapping[int | None, Result] | InputFailure | None]:
    """Encode clips, in halves where memory is short or a clip breaks the encoder; None where nothing helps."""
    if not clips:
        return []
    cost = len(clips) * max(costs[clip.id] for clip in clips)
    try:
        with nullcontext() if alone else budget.spend(cost):
            results = list(encoder.encode(clips, layers))
        encoded.encoded += len(clips)
        return results  # type: ignore[return-value]
    except EmocacheError:
        raise
    except Exception as error:
        end_if_lost(error, f"encoder {encoder.name}")
        short = is_out_of_memory(error)
        if short:
            budget.shrink(cost)
        if len(clips) == 1 and (alone or not short):
            encoded.unresolved[clips[0].id] = f"encoder {encoder.name}: {type(error).__name__}: {one_line(error)}"
            return [None]
    # Outside the except block, where the error would keep the tensors of the failed pass alive.
    if len(clips) == 1:  # the other pass may hold what this one lacks
        with budget.alone():
            return _encode(encoder, clips, layers, costs, budget, encoded, alone=True)
    halves = clips[: len(clips) // 2], clips[len(clips) // 2 :]
    return [result for half in halves for result in _encode(encoder, half, layers, costs, budget, encoded)]
