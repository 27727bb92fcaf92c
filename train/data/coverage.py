"""The utterances of which a stream has something, as an experiment uses it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, Stream
from ..config.sections import FeatureSettings
from ..config.settings import Settings

Streams = Mapping[str, Sequence[Stream]]
"""{name: that stream of every corpus}."""
Key = tuple[str, str]
"""(corpus, id) of an utterance."""


def coverage_of_streams(
    streams: Streams, keys: Sequence[Key], points: Sequence[Settings], allow_incomplete: bool
) -> tuple[dict[str, npt.NDArray[np.bool_]], bool]:
    """Tell which of the U utterances each stream has, with a word or a frame under its mask where that is asked for.

    Args:
        streams: of the experiment.
        keys: of the utterances.
        points: of the search.
        allow_incomplete: streams may lack utterances that were never extracted.

    Returns:
        {stream: (U,) bool}, and whether any stream is incomplete.

    Raises:
        EmocacheError: an incomplete stream that is not allowed, a table, or a stream of which nothing is usable.
    """
    there: dict[str, npt.NDArray[np.bool_]] = {}
    incomplete = False
    for name, group in streams.items():
        own = {stream.corpus: [id_ for corpus, id_ in keys if corpus == stream.corpus] for stream in group}
        # A sum, because `any` would leave the corpora after an incomplete one unchecked.
        incomplete |= bool(sum(_lacks(stream, own[stream.corpus], allow_incomplete) for stream in group))
        found = {(stream.corpus, id_) for stream in group for id_ in stream.ids}
        there[name] = np.array([key in found for key in keys])
    for name, how in _uses(points):
        if how.words or how.where is not None:
            there[name] = _usable_rows(streams[name], keys, there[name], how)
    return there, incomplete


def stored_masks(streams: Streams, points: Sequence[Settings]) -> dict[str, str | None]:
    """Find the stored mask that is read with each stream.

    Args:
        streams: of the experiment.
        points: of the search.

    Returns:
        {stream: name of its mask, or None}.

    Raises:
        EmocacheError: a mask that no stream of its input stores, two masks for one stream, or words of a stream that
            has none.
    """
    for point in points:
        _check_mask(streams, point)
    for name, how in _uses(points):
        if how.words and not any(_speaks(stream) for stream in streams[name]):
            raise EmocacheError(f"features.words: stream {name!r} is not of words; leave the setting out, or set it for"
                                " the input that has them, as features.<input>.words")  # fmt: skip
    found: dict[str, str | None] = dict.fromkeys(streams)
    for name, how in _uses(points):
        if how.where is not None and found[name] not in (None, how.where):
            raise EmocacheError(f"stream {name!r} is read with where = {found[name]!r} and {how.where!r}; use one")
        found[name] = how.where or found[name]
    return found


def _uses(points: Sequence[Settings]) -> Iterator[tuple[str, FeatureSettings]]:
    return ((name, p.features.of(role)) for p in points for role, names in p.streams.items() for name in names)


def _lacks(stream: Stream, ids: Sequence[str], allowed: bool) -> bool:
    """Tell whether utterances of the protocol are neither extracted nor failed; an error unless that is allowed."""
    if stream.recipe["kind"] != "frames":
        raise EmocacheError(f"stream {stream.corpus}/{stream.name} is a table; heads train on streams of frames")
    missing = sorted(set(ids) & set(stream.missing))
    if missing and not allowed:
        raise EmocacheError(
            f"stream {stream.corpus}/{stream.name} is incomplete: {len(missing)} of {len(ids)} protocol utterances are"
            f" neither extracted nor failed, such as {missing[0]!r}; run `emocache extract {stream.corpus}` again, or"
            " pass --allow-incomplete, which marks the runs"
        )
    return bool(missing)


def _usable_rows(
    group: Sequence[Stream], keys: Sequence[Key], there: npt.NDArray[np.bool_], how: FeatureSettings
) -> npt.NDArray[np.bool_]:
    streams = {stream.corpus: stream for stream in group}
    found = np.array([kept and usable(streams[c], i, how) for (c, i), kept in zip(keys, there, strict=True)])
    if there.any() and not found.any():
        asked = "words" if how.words else f"where = {how.where!r}"
        lacks = "no word has a time" if how.words else "it is true nowhere"
        raise EmocacheError(f"features.{asked}: in stream {group[0].name!r} {lacks}; extract it with word times, or"
                            " leave the setting out")  # fmt: skip
    return found


def _speaks(stream: Stream) -> bool:
    """Tell whether the frames are of text, the corpus's own or from a transcript."""
    inputs = {one if isinstance(one, str) else "text" for one in stream.recipe["inputs"]}
    return not inputs.isdisjoint({"text", "words"})


def usable(stream: Stream, id_: str, how: FeatureSettings) -> bool:
    """Tell whether an utterance has the words, or the frames under a mask, that are asked for."""
    # The same selection as in joining, but of times and masks only: the frames are not read for it.
    times = stream.times(id_)
    used = np.ones(len(times), bool)
    if how.words:
        used &= np.isfinite(times).all(axis=1)
    if how.where is not None and how.where in stream.recipe.get("aux", {}):
        used &= stream.aux(id_)[how.where]
    if how.crop_s is not None:
        used &= ~(times.mean(axis=1) >= how.crop_s)
    return bool(used.any())


def _check_mask(streams: Streams, settings: Settings) -> None:
    """Refuse a stored mask that no stream of an input has; one that only some of them lack is no mistake."""
    for role, names in settings.streams.items():
        where = settings.features.of(role).where
        stored = {aux for name in names for stream in streams[name] for aux in stream.recipe.get("aux", {})}
        if where is not None and where not in stored:
            raise EmocacheError(f"features.where = {where!r}: {', '.join(names)} stores no such mask; there is:"
                                f" {', '.join(sorted(stored)) or 'none'}")  # fmt: skip
