"""A pass over a corpus, ready to be carried out, and its tasks carried out in this process."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ....cache import Task, Utterance, plan_tasks
from ...encoders.encoder import Encoder, face_cuts
from ...media.crops import Room
from .. import encoding_loop, estimate, machine
from ..batching import Budget
from ..clips import Decoder
from ..encoding import Target
from ..under_way import Measure, Outcome, Tell
from .options import Options


@dataclass(frozen=True)
class Work:
    """The parts of a pass, which every process that works on it makes alike.

    Attributes:
        options: of the command. names: of the encoders, as they are asked for.
        asked: ids of the utterances that every stream is to have.
        lacking: those of them that some stream lacks.
        chosen: {encoder: its layers}. targets: the streams.
        decoder: of everything that the encoders may need. device: that they run on.
    """

    options: Options
    names: tuple[str, ...]
    asked: Sequence[str]
    lacking: Sequence[Utterance]
    chosen: Mapping[Encoder, Sequence[int | None]]
    targets: Sequence[Target]
    decoder: Decoder
    device: str

    def plan(self, workers: int) -> list[Task]:
        """Return the tasks of this share of what is missing, cut so that so many workers have something to do."""
        loads = estimate.loads(self.lacking, self.chosen, self.options.dtype, self.options.fps)
        number, of = self.options.shard
        # Several workers want several units each, so that none waits for the last one.
        least = 1 if workers * of == 1 else 4 * workers * of
        writers = [target.writer for target in self.targets]
        tasks = plan_tasks(writers, loads, retry_failed=self.options.retry_failed, min_units=least)
        return [task for task in tasks if task.number % of == number - 1]

    def left(self, tasks: Sequence[Task]) -> dict[str, Utterance]:
        """Return {id: Utterance} of some tasks."""
        ids = {utterance for task in tasks for utterance in task.ids}
        return {utterance.id: utterance for utterance in self.lacking if utterance.id in ids}

    def decoder_for(self, tasks: Sequence[Task], room: Room | None = None) -> Decoder:
        """Return a decoder of what some tasks need, with room for crops of its own where none is given.

        What is there already is not decoded again: finding faces costs more than most encoders of sound.
        """
        by_stream = {target.writer.name: target.encoder for target in self.targets}
        needing = [by_stream[stream] for task in tasks for stream in task.units]
        missing = frozenset(name for encoder in needing for name in encoder.inputs)
        return replace(self.decoder, inputs=missing, cuts=face_cuts(needing), room=room or machine.room_for_crops())

    def encode(
        self,
        tasks: Sequence[Task],
        left: Mapping[str, Utterance],
        tell: Tell,
        measure: Measure = lambda utterances, spent, waits: None,
        *,
        decode: encoding_loop.Decode | None = None,
        budget: Budget | None = None,
        beside: machine.SideBySide | None = None,
        halt: "Future[None] | None" = None,
    ) -> Outcome:
        """Carry out tasks here.

        Args:
            tasks: of the plan.
            left: their utterances, and maybe others.
            tell: see `encoding_loop.run`.
            measure: see `encoding_loop.run`.
            decode: see `encoding_loop.run`; None: what the tasks need.
            budget: of batches; None: a new one.
            beside: what goes on at once; None: all that the device can take.
            halt: see `encoding_loop.run`.

        Returns:
            See `encoding_loop.run`, also for what it raises.
        """
        return encoding_loop.run(
            tasks, self.targets, left, decode or self.decoder_for(tasks),
            budget=budget or machine.first_budget(self.device), workers=machine.decode_workers(self.options.workers),
            **(beside or machine.side_by_side(self.device)), retry_failed=self.options.retry_failed, tell=tell,
            measure=measure, halt=halt,
        )  # fmt: skip
