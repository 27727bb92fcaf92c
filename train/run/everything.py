"""Every experiment for the corpora of a cache: what it takes is told first, then the cheapest comes first."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ...cache import Cache, EmocacheError
from ..config.experiment_names import experiment_names
from ..config.stream_lists import corpora_of_all, streams_of
from ..records.run_record import RUN
from ..stored.run_folders import read_record
from .crew import Asked, Crew
from .estimates import duration, guess
from .experiment_plan import Plan
from .fusion_plan import FusionPlan
from .request import Request, carry_out, of_experiment, one_line, runs_to_train


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

    @property
    def name(self) -> str:
        """The experiment with its corpora."""
        return f"{self.experiment} on {' + '.join(self.request.corpora)}"


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


def carry_out_everything(
    requests: Mapping[str, Request], tell: Callable[[str], None], crew: Crew, dry_run: bool
) -> None:
    """Carry out every experiment that is for one of the corpora.

    Args:
        requests: {corpus: what is set for all experiments on it}.
        tell: takes lines for people.
        crew: trains.
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
    told = "" if not left else "; " + _time_left(works, crew.jobs) + ", the cheapest first"
    tell(f"{len(works)} experiments: {left} runs to train, {sum(work.runs for work in works) - left} stored{told}")
    if not dry_run:
        _carry_out([work for work in works if work.left], tell, crew)


def _works_on(corpus: str, request: Request, tell: Callable[[str], None]) -> list[Work]:
    """Plan the experiments for a corpus; tell once what cannot be trained on it, and why."""
    names = [name for name, corpora in corpora_of_all().items() if corpus in corpora]
    if not names:
        tell(f"{corpus}: no experiment is for it; name one, such as `emocache train probe --corpus {corpus}`")
        return []
    there = {info.name for info in request.cache.streams(corpus)}
    lacking: dict[str, list[str]] = {}
    refused: dict[str, list[str]] = {}
    works = []
    for name in names:
        missing = [stream for stream in streams_of(name) if stream not in there]
        for stream in missing:
            lacking.setdefault(stream, []).append(name)
        if missing:
            continue
        try:
            works.append(_work(request, name))
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


def _work(request: Request, name: str) -> Work:
    """Plan one experiment; EmocacheError where it cannot be carried out."""
    plan = request.plan(request.experiment(name))
    left = len(plan.to_train())
    stored = [read_record(path.parent).seconds for path in sorted((request.runs / name).glob(f"*/*/*/{RUN}"))[:20]]
    if isinstance(plan, FusionPlan):
        return Work(request, name, len(plan.all_runs()), left, 0.1 * left, bool(stored), True)
    seconds = left * median(stored) if stored else guess(plan, left)
    return Work(request, name, len(plan.all_runs()), left, seconds, bool(stored), False)


def _carry_out(works: Sequence[Work], tell: Callable[[str], None], crew: Crew) -> None:
    failed: dict[str, str] = {}
    started, expected = time.monotonic(), 0.0

    def begin(number: int, work: Work) -> Plan | FusionPlan:
        tell(f"[{number}/{len(works)}] {work.name}: {work.left} of {work.runs} runs to train")
        return work.request.plan(work.request.experiment(work.experiment))

    def ended(work: Work, error: Exception | None = None) -> None:
        nonlocal expected
        if error is not None:
            failed[work.name] = " ".join(str(error).split())
            tell(f"  failed: {failed[work.name]}")
        expected += work.seconds
        # What was guessed is corrected by what it took.
        rest = (sum(work.seconds for work in works) - expected) * (time.monotonic() - started) / expected
        if rest > 0.5:
            tell(f"  about {duration(rest)} left")

    asked_for: list[Work] = []

    def asked() -> Iterator[Asked]:
        for number, work in enumerate(works, 1):
            if work.fusion:
                continue
            try:
                plan = begin(number, work)
                assert isinstance(plan, Plan)
                runs = runs_to_train(plan)
            except EmocacheError as error:
                ended(work, error)
                continue
            asked_for.append(work)
            yield plan, runs

    for outcome in crew.train_all(asked(), sum(work.left for work in works if not work.fusion)):
        work = asked_for[outcome.number]
        if outcome.line:
            tell(f"  {work.experiment}: {outcome.line}")
        if outcome.last:
            error = outcome.error and of_experiment(work.experiment, outcome.error)
            if error is not None and not isinstance(error, EmocacheError):
                raise error
            ended(work, error)
    for number, work in enumerate(works, 1):  # their members are stored now
        if not work.fusion:
            continue
        try:
            for line in carry_out(begin(number, work), crew, dry_run=False, brief=True):
                tell(f"  {line}")
            ended(work)
        except EmocacheError as error:
            ended(work, error)
    if failed:
        raise EmocacheError(f"{len(failed)} experiments failed, the first is {next(iter(failed))}:"
                            f" {next(iter(failed.values()))}")  # fmt: skip


def _time_left(works: Sequence[Work], jobs: int) -> str:
    guessed = not all(work.measured for work in works if work.left)
    seconds = sum(work.seconds / max(1, min(jobs, work.left)) for work in works)
    return f"about {duration(seconds)} with --jobs {jobs}" + (" (a guess)" if guessed else "")


def carry_out_all(request: Request, tell: Callable[[str], None], crew: Crew, dry_run: bool) -> None:
    """Carry out every shipped experiment that the corpora can be trained on; tell which cannot, and why.

    Args:
        request: the corpora, and what is set for all experiments.
        tell: takes lines for people.
        crew: trains.
        dry_run: only tell.

    Raises:
        EmocacheError: a run failed, after the other experiments were carried out; or none can be carried out.
    """
    names = experiment_names()
    refused: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            plan = request.plan(request.experiment(name))
        except EmocacheError as error:
            refused[name] = one_line(error)  # the names follow
            continue
        try:
            for line in carry_out(plan, crew, dry_run):
                tell(line)
        except EmocacheError as error:
            failed[name] = " ".join(str(error).split())
            tell(f"failed: {failed[name]}")
    alike: dict[str, list[str]] = {}
    for name, reason in refused.items():
        alike.setdefault(reason, []).append(name)
    for reason, those in alike.items():
        tell(f"not for {' + '.join(request.corpora)}: {reason}: {', '.join(those)}")
    done = len(names) - len(refused) - len(failed)
    verb = "can be carried out" if dry_run else "carried out"
    tell(f"{done} of {len(names)} experiments {verb}, {len(refused)} cannot be on these corpora, {len(failed)} failed")
    if failed:
        raise EmocacheError(f"{len(failed)} experiments failed, the first is {next(iter(failed.values()))}")
    if not done:
        raise EmocacheError(f"no experiment can be carried out on {' + '.join(request.corpora)}; the reasons are above")
