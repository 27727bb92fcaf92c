"""Streams that an experiment reads and the cache lacks: what was meant, or the command that makes them."""

import shlex
from collections.abc import Sequence

from ...cache import Cache, EmocacheError
from ...cache.hints import nearest
from ..config.search import search_points
from ..config.settings import Settings


def check_streams(cache: Cache, corpora: Sequence[str], settings: Settings, experiment: str | None) -> None:
    """Look for every stream that an experiment reads, those of its search as well.

    Args:
        cache: where they are looked for.
        corpora: that are trained on.
        settings: of the experiment.
        experiment: its name, or the path of its file; None: its streams were set by hand.

    Raises:
        EmocacheError: the cache lacks one; it tells the remedy.
    """
    points = [point for _, point in search_points(settings)]
    for name in dict.fromkeys(name for point in points for name in point.stream_names):
        for corpus in corpora:
            if not cache.streams(corpus, name.partition("@")[0]):
                told = _remedy(cache, corpus, name, experiment)
                raise EmocacheError(f"streams: corpus {corpus!r} has no stream {name!r}; {told}")


def _remedy(cache: Cache, corpus: str, stream: str, experiment: str | None) -> str:
    known = sorted({info.name for info in cache.streams(corpus)})
    there = ", ".join(known) or "none"
    near = nearest(stream, known, 0.8) if experiment is None else None
    if near and "." not in stream:  # else it is most like the stream that it would be made of
        return f"did you mean {near!r}? it has: {there}"
    goal = f"--stream {shlex.quote(stream)}" if experiment is None else f"--for {shlex.quote(experiment)}"
    make = f"emocache extract {corpus} {goal} --cache {shlex.quote(cache.objects.url)}"
    return f"extract it with `{make}`, or set streams to what there is: {there}"
