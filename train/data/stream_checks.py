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
    names = dict.fromkeys(name for point in points for name in point.stream_names)
    lacking = [(n, corpus) for n in names for corpus in corpora if not cache.streams(corpus, n.partition("@")[0])]
    if lacking:
        name, corpus = lacking[0]
        all_here = [other for other, of in lacking if of == corpus]
        more = f" and {len(all_here) - 1} more of what is read" if len(all_here) > 1 else ""
        told = _remedy(cache, corpus, all_here, experiment)
        raise EmocacheError(f"streams: corpus {corpus!r} has no stream {name!r}{more}; {told}")


def _remedy(cache: Cache, corpus: str, streams: Sequence[str], experiment: str | None) -> str:
    known = sorted({info.name for info in cache.streams(corpus)})
    there = ", ".join(known) or "none"
    near = nearest(streams[0], known, 0.8) if experiment is None else None
    if near and "." not in streams[0]:  # else it is most like the stream that it would be made of
        return f"did you mean {near!r}? it has: {there}"
    goals = [("--stream", name) for name in streams] if experiment is None else [("--for", experiment)]
    goal = " ".join(f"{option} {shlex.quote(name)}" for option, name in goals)
    make = f"emocache extract {corpus} {goal} --cache {shlex.quote(cache.objects.url)}"
    return f"extract {'them' if len(streams) > 1 else 'it'} with `{make}`, or set streams to what there is: {there}"
