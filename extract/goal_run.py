"""Goals carried out: one pass after the other, as far as it goes here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from ..cache import Cache, EmocacheError
from ..cache.device import tell_device
from .encoders.needs import need_of
from .goal_plan import plan_streams
from .goals.passes import Goal, plan_passes
from .goals.rates import recorded_rates
from .goals.times import of_signals
from .pipeline import machine
from .pipeline.encoding_loop import Outcome
from .pipeline.stage import Options, Report, extract, load_manifest
from .plan_table import plan_lines
from .weights.hub import is_offline


def reach_goals(options: Options, goals: Sequence[Goal]) -> Iterator[Report]:
    """Make the streams that are wanted, and what they rest on first.

    Args:
        options: of the command line, for what the goals do not tell.
        goals: the streams.

    Yields:
        The report of each pass. What cannot be made here stands in its `unmade`, and the rest is made.

    Raises:
        EmocacheError: anything that stops a pass but an encoder that cannot be had, or what rests on one.
    """
    unmade: dict[str, str] = {}
    for one in plan_passes(goals):
        own = replace(
            options, goals=one, text_from=one.text_from, words_from=one.how.words_from, fps=one.how.fps,
            detector=one.how.detector, detect_every=one.how.detect_every, precision=one.how.precision,
        )  # fmt: skip
        rests_on = [name.partition(":")[0] for name in (one.text_from, one.how.words_from) if name is not None]
        absent = [name for name in rests_on if name in unmade]
        if absent:
            told = dict.fromkeys(one.layers, f"it rests on {absent[0]}, which cannot be made here")
            report = Report(options.corpus, [], Outcome(), unmade=told)
        else:
            report = extract(own)
        unmade |= report.unmade
        yield report


def refuse_unknown(goals: Sequence[Goal], checkpoints: Path | None) -> None:
    """Refuse streams whose encoder nobody knows, before anything is done.

    Args:
        goals: the streams.
        checkpoints: as `encoders.load` takes it.

    Raises:
        EmocacheError: names the stream and the encoder; see `needs.need_of`.
    """
    for goal in goals:
        for encoder in goal.parts.encoders:
            try:
                need_of(encoder, checkpoints, goal.origins)
            except EmocacheError as error:
                raise EmocacheError(f"stream {goal.name!r}: {error}") from None


def tell_plan(options: Options, goals: Sequence[Goal], out: TextIO) -> bool:
    """Print the plan of the streams that are wanted.

    Args:
        options: of the command line.
        goals: the streams.
        out: to print on.

    Returns:
        True where all of them are there, or can be made here.

    Raises:
        EmocacheError: the corpus cannot be loaded.
    """
    cache = Cache(options.cache)
    manifest, notes = load_manifest(cache, options)
    fetches = not (options.offline or is_offline())
    plans = list(plan_streams(cache, manifest, goals, options.checkpoints, options.dtype))
    device = options.device if find_spec("torch") else "cpu"
    rates = {**of_signals(recorded_rates(machine.hardware("cpu"))), **recorded_rates(machine.hardware(device))}
    if find_spec("torch") and options.device != "cpu":
        print(tell_device(options.device, ", ".join(sorted({goal.how.precision for goal in goals}))), file=out)
    for line in (*notes, *plan_lines(manifest.corpus, plans, fetches, rates, machine.on_gpu(device))):
        print(line, file=out)
    return all(plan.can_be_made(fetches) for plan in plans)
