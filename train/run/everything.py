"""Every experiment that is for the corpora of a cache: what it takes is told first, then the cheapest comes first."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ...cache import Cache, EmocacheError
from ..config.search import search_points
from ..config.stream_lists import corpora_of_all, streams_of
from ..records.run_record import RUN
from ..stored.run_folders import read_record
from .experiment_plan import Plan
from .fusion_plan import FusionPlan
from .request import Request, carry_out, one_line

# Seconds of a run, and of one number of its frames in one epoch on a processor, where no run tells better: those of a
# recurrent head of 128 units, within a factor of ten.
_A_RUN, _A_NUMBER = 0.3, 1e-7


@dataclass(frozen=True)
class Work:
    """One experiment on one corpus, and what is left to be done for it.

    Attributes:
        request: of the corpus. experiment: its name.
        runs: how many are asked for. left: how many are not stored yet.
        seconds: that the ones left take, one after the other. measured: by stored runs of the experiment; else a guess.
        fusion: it reads the runs of others.
    """

    request: Request
    experiment: str
    runs: int
    left: int
    seconds: float
    measured: bool
    fusion: bool


def corpora_in(cache: Cache, asked: Sequence[str], every: bool = False) -> list[str]:
    """Name the corpora that are asked for as the cache names them.

    Args:
        cache: has them.
        asked: names; of one that is not there, `NAME-...` are meant, as which it may be packaged. Empty: all.
        every: with a corpus, take its other packagings too.

    Returns:
        Names, in the order in which they were asked for.

    Raises:
        EmocacheError: the cache has nothing of such a name, or nothing at all.
    """
    try:
        return _corpora_in(cache, asked, every)
    except NotADirectoryError:
        raise EmocacheError(f"cache {cache.objects.url} is a file; give the folder that `emocache extract --cache`"
                            " wrote to") from None  # fmt: skip


def _corpora_in(cache: Cache, asked: Sequence[str], every: bool) -> list[str]:
    held = cache.corpora()
    found: dict[str, None] = {}
    for name in asked or held:
        others = [other for other in held if other.startswith(f"{name}-")] if asked else []
        if name in held or not others:
            found[name] = None
        if every or name not in held:
            found |= dict.fromkeys(others)
    for name in found:
        cache.manifest(name)
    if not found:
        raise EmocacheError(f"cache {cache.objects.url} {cache.why_empty()}")
    return list(found)


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def carry_out_everything(
    requests: Mapping[str, Request], tell: Callable[[str], None], jobs: int, dry_run: bool
) -> None:
    """Carry out every experiment that is for one of the corpora.

    Args:
        requests: {corpus: what is set for all experiments on it}.
        tell: takes lines for people.
        jobs: processes that train at the same time.
        dry_run: only tell.

    Raises:
        EmocacheError: a run failed, after the others were carried out; or nothing can be carried out.
    """
    works: list[Work] = []
    for corpus, request in requests.items():
        works += _works_on(corpus, request, tell)
    if not works:
        raise EmocacheError(f"nothing can be trained on {', '.join(requests)}; the reasons are above")
    works.sort(key=lambda work: (work.fusion, work.seconds))  # a fusion comes after its members
    left = sum(work.left for work in works)
    told = "" if not left else "; " + _time_left(works, jobs) + ", the cheapest first"
    tell(f"{len(works)} experiments: {left} runs to train, {sum(work.runs for work in works) - left} stored{told}")
    if not dry_run:
        _carry_out([work for work in works if work.left], tell, jobs)


def _works_on(corpus: str, request: Request, tell: Callable[[str], None]) -> list[Work]:
    """Plan the experiments for a corpus; tell once what cannot be trained on it, and why."""
    names = [name for name, corpora in corpora_of_all().items() if corpus in corpora]
    if not names:
        tell(f"{corpus}: no experiment is for it; name one, such as `emocache train probe --corpus {corpus}`")
        return []
    sizes = _Sizes(request.cache, corpus)
    lacking: dict[str, list[str]] = {}
    refused: dict[str, list[str]] = {}
    works = []
    for name in names:
        missing = [stream for stream in streams_of(name) if stream not in sizes.there]
        for stream in missing:
            lacking.setdefault(stream, []).append(name)
        if missing:
            continue
        try:
            works.append(_work(request, name, sizes))
        except EmocacheError as error:
            refused.setdefault(one_line(error), []).append(name)
    tell(f"{corpus}: {len(names)} experiments are for it, {len(works)} can be trained here")
    for line in _untrained(corpus, request.cache, lacking, refused):
        tell(line)
    return works


def _untrained(
    corpus: str, cache: Cache, lacking: Mapping[str, Sequence[str]], refused: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    for why, names in refused.items():
        yield f"  {len(names)} cannot ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): {why}"
    if not lacking:
        return
    those = {name for names in lacking.values() for name in names}
    yield f"  {len(those)} lack streams: " + ", ".join(f"{s} ({len(names)})" for s, names in lacking.items())
    streams = " ".join(f"--stream {stream}" for stream in lacking)
    yield f"  to make them: emocache extract {corpus} --data DIR --cache {cache.objects.url} {streams}"


class _Sizes:
    """The numbers that the streams of a corpus hold, each counted when it is first asked for."""

    def __init__(self, cache: Cache, corpus: str) -> None:
        self._cache, self._corpus = cache, corpus
        self._known: dict[str, int] = {}
        self.there = {info.name for info in cache.streams(corpus)}

    def of(self, name: str) -> int:
        if name not in self._known:
            stream = self._cache.stream(self._corpus, name)
            self._known[name] = stream.frames * stream.dim
        return self._known[name]


def _work(request: Request, name: str, sizes: _Sizes) -> Work:
    """Plan one experiment; EmocacheError where it cannot be carried out."""
    plan = request.plan(request.experiment(name))
    left = len(plan.to_train())
    stored = [read_record(path.parent).seconds for path in sorted((request.runs / name).glob(f"*/*/*/{RUN}"))[:20]]
    if isinstance(plan, FusionPlan):
        return Work(request, name, len(plan.all_runs()), left, 0.1 * left, bool(stored), True)
    seconds = left * (median(stored) if stored else _guess(plan, sizes))
    return Work(request, name, len(plan.all_runs()), left, seconds, bool(stored), False)


def _guess(plan: Plan, sizes: _Sizes) -> float:
    """Guess the seconds of one run by the numbers that it reads."""
    points = [point for _, point in search_points(plan.settings)]
    numbers = sum(sizes.of(name) * point.training.epochs for point in points for name in point.stream_names)
    return _A_RUN + _A_NUMBER * numbers * (len(plan.settings.targets) if plan.settings.targets_apart else 1)


def _carry_out(works: Sequence[Work], tell: Callable[[str], None], jobs: int) -> None:
    failed: dict[str, str] = {}
    expected = spent = 0.0
    for number, work in enumerate(works, 1):
        started = time.monotonic()
        name = f"{work.experiment} on {' + '.join(work.request.corpora)}"
        tell(f"[{number}/{len(works)}] {name}: {work.left} of {work.runs} runs to train")
        try:
            plan = work.request.plan(work.request.experiment(work.experiment))
            for line in carry_out(plan, jobs, dry_run=False, brief=True):
                tell(f"  {line}")
        except EmocacheError as error:
            failed[name] = " ".join(str(error).split())
            tell(f"  failed: {failed[name]}")
        spent += time.monotonic() - started
        expected += work.seconds
        # What was guessed is corrected by what it took.
        rest = sum(later.seconds for later in works[number:]) * spent / expected
        if rest:
            tell(f"  about {duration(rest)} left")
    if failed:
        raise EmocacheError(f"{len(failed)} experiments failed, the first is {next(iter(failed))}:"
                            f" {next(iter(failed.values()))}")  # fmt: skip


def _time_left(works: Sequence[Work], jobs: int) -> str:
    guessed = not all(work.measured for work in works if work.left)
    seconds = sum(work.seconds / max(1, min(jobs, work.left)) for work in works)
    return f"about {duration(seconds)} with --jobs {jobs}" + (" (a guess)" if guessed else "")


def duration(seconds: float) -> str:
    """Write a time as people say it, in one or two units: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
