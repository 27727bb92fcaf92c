"""The plan as people read it: a line that sums up, a table of the streams, their weights, and the remedies."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from .encoders.needs import Need, remedies
from .goal_plan import StreamPlan, comes_by_itself
from .goals.times import Time, about, roughly, times

_WIDTH = 80  # columns; addresses may be longer
_STREAM, _CHECKPOINT = 40, 24  # columns of names; a longer one has a line of its own


def plan_lines(
    corpus: str, plans: Sequence[StreamPlan], fetches: bool, rates: Mapping[str, float], gpu: bool
) -> Iterator[str]:
    """Tell a plan.

    Args:
        corpus: that the streams are of.
        plans: of the streams.
        fetches: weights of the hub come by themselves.
        rates: {setting: seconds of media a second}, of earlier runs.
        gpu: whether models run on one.

    Yields:
        Lines of up to 80 columns, but for addresses that are longer.
    """
    to_make = [plan for plan in plans if plan.can_be_made(fetches) and not plan.complete]
    took = dict(zip((plan.name for plan in to_make), times([plan.works for plan in to_make], rates, gpu), strict=True))
    there = sum(plan.complete for plan in plans)
    counts = [f"{there} there", f"{len(to_make)} to make", f"{len(plans) - there - len(to_make)} cannot be made here"]
    utterances = max((plan.utterances for plan in plans), default=0)
    streams = f"{len(plans)} stream{'s' * (len(plans) != 1)}"
    yield f"{streams} of {corpus}, {utterances} utterances: {', '.join(counts)}"
    if to_make:
        yield f"to make: {_total(to_make, list(took.values()))}"
    yield from _table(plans, took)
    yield from _weights(plans, fetches)
    lacking = {need.weights: need for plan in plans if not plan.can_be_made(fetches) for need in plan.lacking}
    if lacking:
        yield "for those that cannot be made here:"
        for remedy in remedies(list(lacking.values())):
            yield from _folded(remedy)


def _total(to_make: Sequence[StreamPlan], took: Sequence[Time]) -> str:
    sizes = [plan.gigabytes for plan in to_make]
    size = f"{'at least' if None in sizes else 'about'} {_size(sum(one or 0.0 for one in sizes))}"
    guesses = [time.guessed for time in took if time.seconds]
    say = roughly if any(guesses) else about
    together = say(sum(time.seconds for time in took))
    told = together if together.startswith("under") else f"about {together}"
    if not any(guesses):
        return f"{size}, {told}" + " (as earlier runs here went)" * bool(guesses)
    return f"{size}, {told} ({'a guess' if all(guesses) else 'partly a guess, marked ?'}; no run recorded here)"


def _table(plans: Sequence[StreamPlan], took: Mapping[str, Time]) -> Iterator[str]:
    """The streams, a row each."""
    failed = any(plan.failed for plan in plans)
    rows = [("stream", "there", "failed", "to write", "time")]
    for plan in plans:
        size = "" if plan.complete else "?" if plan.gigabytes is None else _size(plan.gigabytes)
        there = f"{plan.there} of {plan.utterances}"
        rows.append((plan.name, there, str(plan.failed or ""), size, _state(plan, took.get(plan.name))))
    width = max(len(row[0]) for row in rows if len(row[0]) <= _STREAM)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells, state in rows:
        if len(name) > width:
            yield f"  {name}"
            name = ""
        numbers = [cell.rjust(widths[i]) for i, cell in enumerate(cells, 1) if i != 2 or failed]
        yield f"  {name:<{width}}  {'  '.join(numbers)}  {state}".rstrip()


def _state(plan: StreamPlan, time: Time | None) -> str:
    """The last cell: the time, or why there is none."""
    if plan.complete:
        return "done"
    if time is None:
        return "; ".join(dict.fromkeys(f"{need.missing} missing" for need in plan.lacking))
    if time.shared:
        return "shared"
    return f"{roughly(time.seconds)} ?" if time.guessed else about(time.seconds)


def _weights(plans: Sequence[StreamPlan], fetches: bool) -> Iterator[str]:
    """The weights and where they are from, each once."""
    needs = {need.weights: need for plan in plans for need in plan.needs if need.where or need.lacks_weights}
    if not needs:
        return
    yield "weights:"
    width = max([len(name) for name in needs if len(name) <= _CHECKPOINT], default=0)
    for name, need in needs.items():
        told = _whence(need, fetches)
        row = f"  {name:<{width}}  {told}"
        yield from [row] if len(row) <= _WIDTH and len(name) <= width else [f"  {name}", f"    {told}"]


def _whence(need: Need, fetches: bool) -> str:
    if not need.lacks_weights:
        return f"here: {need.source}"
    return f"{'to be fetched' if fetches and comes_by_itself(need) else 'missing'}: {need.source}"


def _size(gigabytes: float) -> str:
    if gigabytes >= 0.95:
        return f"{gigabytes:.1f} GB"
    return f"{gigabytes * 1000:.0f} MB" if gigabytes >= 0.0015 else "1 MB" if gigabytes else "0 MB"


def _folded(command: str) -> Iterator[str]:
    """A command that a shell takes as it stands, over several lines where it is long."""
    line = " "
    for word in map(shlex.quote, shlex.split(command)):
        if len(line) + len(word) + 3 > _WIDTH:
            yield line + " \\"
            line = "     "
        line += f" {word}"
    yield line
