"""The streams that experiments read, in the searched points and the members of fusions as well."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ...cache import EmocacheError
from ...cache.hints import nearest
from .experiment_files import open_experiment
from .experiment_names import beside, each_experiment, experiment_names
from .fusion_settings import FusionSettings
from .loading import load_experiment
from .search import search_points
from .sections import ExtractSettings
from .settings import Settings


def matching_experiments(patterns: Sequence[str], corpus: str | None = None) -> list[str]:
    """List the experiments that any of the patterns names.

    Args:
        patterns: names, paths of files, patterns such as `paper1/*`, or `all`.
        corpus: of what a pattern finds, only those for this corpus are taken, where some are.

    Returns:
        Each once. Of those that a pattern names, the ones that leave the choice of streams to the user are left out.

    Raises:
        EmocacheError: a pattern that no experiment matches.
    """
    known = experiment_names()
    found: dict[str, None] = {}
    for pattern in patterns:
        several = each_experiment(pattern)
        if pattern in known or pattern.endswith(".toml") or several != [pattern]:
            found |= dict.fromkeys(several)
            continue
        those = [name for name in corpora_of_all() if pattern == "all" or fnmatch.fnmatch(name, pattern)]
        if not those:
            papers = [f"{folder}/*" for folder in sorted({name.partition("/")[0] for name in known if "/" in name})]
            near = nearest(pattern, papers if "*" in pattern else known)
            hint = f"did you mean {near!r}? " if near and "*" not in pattern else ""
            hint = f"there are {', '.join(papers)}; " if near and "*" in pattern else hint
            raise EmocacheError(f"--for {pattern}: no experiment is called so; {hint}`emocache train --list` has all")
        found |= dict.fromkeys([name for name in those if corpus in corpora_of_all()[name]] or those)
    return list(found)


def experiments_for(corpus: str) -> list[str]:
    """List the shipped experiments that are for a corpus, by their `corpora`.

    Args:
        corpus: its name.

    Returns:
        Their names; those of fusions are those whose members are for it.

    Raises:
        EmocacheError: there is none; tells the corpora that have some.
    """
    known = corpora_of_all()
    found = [name for name, corpora in known.items() if corpus in corpora]
    if not found:
        others = ", ".join(sorted(set().union(*known.values())))
        raise EmocacheError(
            f"no experiment is for corpus {corpus!r}, so say what to extract (--encoder, --stream or --for); there are"
            f" experiments for: {others}"
        )
    return found


def corpora_of(name: str) -> frozenset[str]:
    """Return the corpora that a shipped experiment is for; none of one that names no streams."""
    return corpora_of_all().get(name, frozenset())


@cache
def corpora_of_all() -> dict[str, frozenset[str]]:
    """{experiment that names streams: its corpora}, read once: shipped files do not change while we run."""
    named = (n for n in experiment_names() if {"streams", "fusion"} & open_experiment(n).values.keys())
    return {name: frozenset(_corpora(name)) for name in named}


def _corpora(name: str | Path) -> tuple[str, ...]:
    _, path, settings = load_experiment(str(name))
    if isinstance(settings, FusionSettings):
        return _corpora(beside(path, settings.fusion.members[0], "fusion.members"))
    return settings.corpora


@dataclass(frozen=True)
class WantedStream:
    """A stream that experiments read.

    Attributes:
        name: of the stream, without a fingerprint.
        how: what its name does not say.
        source: {short name of an encoder: org/name[@revision]}.
        experiments: that read it, in order.
    """

    name: str
    how: ExtractSettings
    source: Mapping[str, str]
    experiments: tuple[str, ...]


def wanted_streams(patterns: Sequence[str], corpus: str | None = None) -> list[WantedStream]:
    """Collect the streams that experiments read.

    Args:
        patterns: see `matching_experiments`.
        corpus: see there; None where streams of several corpora are collected, each made in the way of its own.

    Returns:
        Each once, in the order in which they come up.

    Raises:
        EmocacheError: an unknown or a wrong experiment; or two that would have one stream made in two ways.
    """
    found: dict[str, WantedStream] = {}
    made: dict[tuple[str, str], WantedStream] = {}  # for one corpus; "" for all
    for name in matching_experiments(patterns, corpus):
        for stream, settings in _streams(name):
            own = WantedStream(stream, settings.extract, settings.encoders, (name,))
            for place in (corpus is None and settings.corpora) or ("",):
                _check_alike(made.setdefault((stream, place), own), name, settings)
            before = found.setdefault(stream, own)
            found[stream] = replace(
                before,
                source={**before.source, **settings.encoders},
                experiments=tuple(dict.fromkeys((*before.experiments, name))),
            )
    return list(found.values())


def streams_of(name: str) -> list[str]:
    """List the streams that an experiment reads; see `loading.load_experiment` for errors."""
    return list(dict.fromkeys(stream for stream, _ in _streams(name)))


def _streams(name: str | Path) -> Iterator[tuple[str, Settings]]:
    """Yield the streams of an experiment, or of a fusion's members, with the settings that name them."""
    _, path, settings = load_experiment(str(name))
    if isinstance(settings, FusionSettings):
        for member in settings.fusion.members:
            yield from _streams(beside(path, member, "fusion.members"))
        return
    for _, point in search_points(settings):
        yield from ((stream.partition("@")[0], settings) for stream in point.stream_names)


def _check_alike(before: WantedStream, name: str, settings: Settings) -> None:
    theirs, ours = before.how.model_dump(), settings.extract.model_dump()
    for key, value in ours.items():
        if value != theirs[key]:
            raise EmocacheError(
                f"experiments {before.experiments[0]!r} and {name!r} would have stream {before.name!r} made in two"
                f" ways: [extract] {key} = {theirs[key]!r} and {value!r}; give both the same, or ask for one of them"
            )
    for short, source in settings.encoders.items():
        if before.source.get(short, source) != source:
            raise EmocacheError(
                f"experiments {before.experiments[0]!r} and {name!r} mean two models by {short!r} in [encoders]:"
                f" {before.source[short]} and {source}; give them two names"
            )
