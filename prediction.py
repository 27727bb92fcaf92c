"""Predictions for new media by stored runs: what `emocache predict` does, for Python."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .cache import Cache, EmocacheError
from .cache.device import choose_device

if TYPE_CHECKING:
    from .extract.clip_streams import How, Places
    from .extract.given_media import GivenClip
    from .train.apply.answers import Answer
    from .train.config.settings import Settings


_HASHED = re.compile(r"\b[0-9a-f]{64}(\.\w+)?\b")


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one clip, or for one window of it.

    Attributes:
        name: of the clip, as it was given.
        start, end: seconds of the window in the clip; `end` is None of a clip as a whole.
        values: {class: probability}, or {target: value}; of a track the mean over time.
        label: the most probable class; None where the task has no classes.
        times: seconds of the middle of each frame; empty where the task is not frame-wise.
        track: {target: value of each frame}.
        training: "" of a clip that training knows nothing of. "train": the model, or one of several whose mean this is,
            was trained on it, so it is no test; "valid" or "test": its part in the one fold that was asked for.
        windows: of a clip that is longer than training has seen.
    """

    name: str
    values: Mapping[str, float]
    label: str | None = None
    start: float = 0.0
    end: float | None = None
    times: tuple[float, ...] = ()
    track: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    training: str = ""
    windows: tuple["Prediction", ...] = ()


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for everything that was given.

    Attributes:
        clips: in the order in which they were given. failures: {name: why there is none}.
        notes: lines to tell the user. model: which models answered, in words.
    """

    clips: tuple[Prediction, ...]
    failures: Mapping[str, str]
    notes: tuple[str, ...]
    model: str


class Predictor:
    """Stored runs, ready for media.

    Args:
        run: folder of a run, of the runs of one setting, or one that `emocache export` wrote.
        fold: only models of this fold. seed: only models of this seed. Without both the final run answers if there is
            one, else the mean over all folds and seeds.
        cache: streams that are there are used, new ones are added; None: in a folder that is removed.
        how: of encoding, see `extract.clip_streams.How`.
        device: of the heads: "auto", "cpu" or "cuda".

    Raises:
        EmocacheError: no such run, or a damaged one.

    Example:
        predictor = Predictor("runs/ravdess-probe/ravdess/0123456789ab")
        for clip in predictor.predict(["interview.mp4"]).clips:
            print(clip.name, clip.label, clip.values)
    """

    def __init__(
        self,
        run: str | Path,
        *,
        fold: int | None = None,
        seed: int | None = None,
        cache: str | Path | None = None,
        how: "How | None" = None,
        device: str = "cpu",
    ) -> None:
        import torch

        from .train.apply.opening_runs import open_models

        self.models = open_models(Path(run), fold, seed)
        self._cache = cache
        self._how = how
        self._device = torch.device(choose_device(device))

    def predict(self, media: Sequence[str | Path]) -> Predictions:
        """Predict.

        Args:
            media: files, folders and tables, see `extract.given_media.find_media`.

        Returns:
            The predictions, and what has failed.

        Raises:
            EmocacheError: nothing was found, or an encoder that cannot be had, or has other weights than the runs name.
        """
        try:
            from .extract.clip_streams import How, WantedStream, encode_given
            from .extract.given_media import find_media
        except ModuleNotFoundError as error:
            raise EmocacheError(f"prediction needs {error.name}; install it with: pip install 'emocache[extract]'"
                                ) from error  # fmt: skip
        sources = self.models.sources
        given = find_media([Path(one) for one in media], sources.longest, self._window)
        names = dict.fromkeys(_bare(name) for settings in self.models.settings for name in settings.stream_names)
        wanted = {
            name: WantedStream(dict(s.recipe), s.fingerprint, s.weights, sources.matrices.get(name))
            for name, s in sources.streams.items()
            if name in names
        }
        with ExitStack() as stack:
            root = self._cache or stack.enter_context(TemporaryDirectory(prefix="emocache-predict-"))
            places = encode_given(Cache(root), given, wanted, self._how or How())
            answers = self._answers(given.clips, places)
        failures, clips = dict(given.failures), []
        for clip in given.clips:
            found = [(start, end, answers.get(u.id)) for start, end, u in clip.windows]
            known = [(start, end, answer) for start, end, answer in found if answer is not None]
            if known:
                clips.append(self._prediction(clip, known))
            if len(known) < len(found):
                whys = {why for _, _, u in clip.windows for why in places.failures[u.id].values()}
                whys = {_HASHED.sub("the file", why) for why in whys}  # media are linked under their hashes
                told = "; ".join(sorted(whys)) or "nothing of it is what the head takes, such as words or faces"
                part = "" if not known else f"{len(found) - len(known)} of {len(found)} windows: "
                failures[clip.name] = part + told
        return Predictions(tuple(clips), failures, tuple(given.notes), self.models.told)

    @property
    def _window(self) -> float | None:
        """The most seconds that every head has looked at."""
        crops = [s.features.of(role).crop_s for s in self.models.settings for role in s.streams]
        known = [s for s in (*crops, self.models.sources.longest) if s is not None]
        return min(known, default=None)

    def _answers(self, clips: Sequence["GivenClip"], places: "Places") -> "dict[str, Answer]":
        """{utterance: answer} of those that have features."""
        from .train.apply.answers import average
        from .train.apply.unlabelled import Unlabelled, read_unlabelled

        speakers = {u.id: clip.speaker for clip in clips for _, _, u in clip.windows}
        datasets: dict[str, Any] = {}

        def dataset(settings: "Settings") -> Any:
            key = json.dumps(settings.model_dump(mode="json", include={"streams", "features", "modalities"}))
            if key not in datasets:
                rows = [
                    Unlabelled(id_, {name: places.of[id_][_bare(name)] for name in settings.stream_names
                                     if _bare(name) in places.of[id_]}, speaker)
                    for id_, speaker in speakers.items()
                ]  # fmt: skip
                datasets[key] = read_unlabelled(rows, settings)
            return datasets[key]

        of_models = [model.answers(dataset, self._device) for model in self.models.models]
        means = {id_: average(own) for id_, own in zip(speakers, zip(*of_models, strict=True), strict=True)}
        return {id_: answer for id_, answer in means.items() if answer is not None}

    def _prediction(self, clip: "GivenClip", found: "list[tuple[float, float | None, Answer]]") -> Prediction:
        from .train.apply.answers import joined

        training = self.models.part_of(clip.sha256)
        if len(found) == 1:
            return self._told(clip.name, *found[0], training)
        ends = [(start, start if end is None else end, answer) for start, end, answer in found]
        windows = tuple(self._told(clip.name, start, end, answer, training) for start, end, answer in ends)
        whole = self._told(clip.name, 0.0, None, joined(ends), training)
        return Prediction(**{**vars(whole), "windows": windows})

    def _told(self, name: str, start: float, end: float | None, answer: "Answer", training: str) -> Prediction:
        mean = answer.values if answer.times is None else answer.values.mean(axis=0)
        values = dict(zip(answer.names, mean.tolist(), strict=True))
        label = max(values, key=lambda one: values[one]) if self.models.record.task == "classification" else None
        if answer.times is None:
            return Prediction(name, values, label, start, end, training=training)
        track = {target: tuple(column) for target, column in zip(answer.names, answer.values.T.tolist(), strict=True)}
        return Prediction(name, values, label, start, end, tuple(answer.times.tolist()), track, training)


def _bare(stream: str) -> str:
    return stream.partition("@")[0]
