"""The streams that experiments read, in the searched points and the members of fusions as well."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...cache import EmocacheError
from ...cache.hints import nearest
from .experiment_files import beside, experiment_names
from .fusion_settings import FusionSettings
from .loading import load_experiment
from .search import search_points


def matching_experiments(patterns: Sequence[str]) -> list[str]:
    """List the experiments that any of the patterns names.

    Args:
        patterns: names, paths of files, patterns such as `paper1/*`, or `all`.

    Returns:
        Each once.

    Raises:
        EmocacheError: a pattern that no experiment matches.
    """
    known = experiment_names()
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern in known or pattern.endswith(".toml"):
            found[pattern] = None
            continue
        those = known if pattern == "all" else fnmatch.filter(known, pattern)
        if not those:
            near = nearest(pattern, known)
            hint = f"did you mean {near!r}? " if near else ""
            raise EmocacheError(f"--for {pattern}: no experiment is called so; {hint}`emocache train --list` has all")
        found |= dict.fromkeys(those)
    return list(found)


def streams_of(patterns: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """Collect the streams that experiments read.

    Args:
        patterns: see `matching_experiments`.

    Returns:
        {stream: the `[encoders]` table of the experiment that names it}, each once.

    Raises:
        EmocacheError: an unknown or a wrong experiment.
    """
    streams: dict[str, Mapping[str, str]] = {}
    for name in matching_experiments(patterns):
        _add(name, streams)
    return streams


def _add(name: str | Path, streams: dict[str, Mapping[str, str]]) -> None:
    _, path, settings = load_experiment(str(name))
    if isinstance(settings, FusionSettings):
        for member in settings.fusion.members:
            _add(beside(path, member, "fusion.members"), streams)
        return
    for _, point in search_points(settings):
        for stream in point.stream_names:
            streams.setdefault(stream, settings.encoders)
