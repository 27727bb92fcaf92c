"""Goals carried out: one pass after the other, as far as it goes here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..cache import EmocacheError
from .goals.passes import Goal, plan_passes
from .pipeline.encoding_loop import Outcome
from .pipeline.stage import Options, Report, extract


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
            detector=one.how.detector, precision=one.how.precision,
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


def refuse_unknown(goals: Sequence[Goal]) -> None:
    """Refuse streams whose encoder nobody knows, before anything is done.

    Args:
        goals: the streams.

    Raises:
        EmocacheError: names the stream and the encoder; see `needs.need_of`.
    """
    from .encoders.needs import need_of

    for goal in goals:
        for encoder in goal.parts.encoders:
            try:
                need_of(goal.sources.get(encoder, encoder))
            except EmocacheError as error:
                raise EmocacheError(f"stream {goal.name!r}: {error}") from None
