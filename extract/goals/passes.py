"""Streams as goals: what each is made of, and the passes over a corpus that make them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .stream_names import StreamName, parse_stream


@dataclass(frozen=True)
class Making:
    """The ways of making a stream that its name does not tell; see `emocache extract -h`."""

    fit_on: str = "all"
    fps: float | None = None
    detector: str = "dlib"
    precision: str = "float32"
    words_from: str | None = None
    detect_every: int = 1


@dataclass(frozen=True)
class Goal:
    """A stream that is wanted.

    Attributes:
        name: of the stream.
        how: what its name does not tell.
        origins: {name of a checkpoint: org/name[@revision]}, where no folder of that name is here.
    """

    name: str
    how: Making = field(default_factory=Making)
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> StreamName:
        """The parts of the name."""
        return parse_stream(self.name)


def made_by_hand(goals: Sequence[Goal], given: Mapping[str, Any]) -> list[Goal]:
    """Put what was given by hand in the place of what the goals say.

    Args:
        goals: any.
        given: {field of `Making`: its value}.

    Returns:
        The goals, all with these values.
    """
    return [replace(goal, how=replace(goal.how, **given)) for goal in goals]


@dataclass(frozen=True)
class PcaGoal:
    """A projection to be stored: of layers of an encoder, on so many components, fitted on some utterances."""

    encoder: str
    layers: str
    components: int
    fit_on: str


@dataclass(frozen=True)
class Pass:
    """One pass over the corpus, in which encoders share the decoding of every file.

    Attributes:
        layers: {encoder: its layers}, as `--layers` has them.
        how: the same for all of them; `fit_on` stands in the projections.
        text_from: as `--text-from`.
        projections: made at the end of the pass.
        origins: {name of a checkpoint: org/name[@revision]}.
        alias: what the streams of the one encoder are called; None: by its name.
    """

    layers: Mapping[str, str]
    how: Making = field(default_factory=Making)
    text_from: str | None = None
    projections: tuple[PcaGoal, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None


def plan_passes(goals: Sequence[Goal]) -> list[Pass]:
    """Order what is to be made: what others rest on first, and as few passes as that allows.

    A transcript comes before the text that is encoded from it, an alignment before the words that are placed by it, a
    stream before its projection.

    Args:
        goals: in any order.

    Returns:
        The passes; goals that differ in anything but `fit_on` are made in different ones.
    """
    layers: dict[tuple[int, str, Making], dict[str, dict[str, None]]] = {}
    projections: dict[tuple[int, str, Making], list[PcaGoal]] = {}
    origins: dict[str, str] = {}

    def want(rank: int, text_from: str, how: Making, encoder: str, layer: str) -> tuple[int, str, Making]:
        key = (rank, text_from, how)
        layers.setdefault(key, {}).setdefault(encoder, {})[layer] = None
        return key

    for goal in goals:
        parts = goal.parts
        how = replace(goal.how, fit_on="all")
        first = replace(how, words_from=None)
        origins |= goal.origins
        if parts.transcript is not None:
            want(0, "", first, parts.transcript, "last")
        if goal.how.words_from is not None:
            want(0, "", first, goal.how.words_from, "last")
        rests = parts.transcript is not None or goal.how.words_from is not None
        text_from = "" if parts.transcript is None else parts.transcript + ":translation" * parts.translation
        layer = "last" if parts.layer is None else str(parts.layer)
        key = want(1 if rests else 0, text_from, how if rests else first, parts.encoder, layer)
        if parts.pca is not None:
            one = PcaGoal(parts.encoder, layer, parts.pca, goal.how.fit_on)
            projections.setdefault(key, [])
            projections[key] += [] if one in projections[key] else [one]
    return [
        Pass(
            {encoder: ",".join(own) for encoder, own in layers[key].items()},
            key[2],
            key[1] or None,
            tuple(projections.get(key, ())),
            origins,
        )
        for key in sorted(layers, key=lambda key: key[0])
    ]


def pass_of_flags(names: Sequence[str], layers: str, pca: int | None, fit_on: str, alias: str | None) -> Pass:
    """Put what the flags of the command line ask for into one pass.

    Args:
        names: `--encoder`.
        layers: `--layers`.
        pca: `--pca`.
        fit_on: `--fit-on`.
        alias: `--as`.

    Returns:
        The pass; every layer is projected where a PCA is asked for.
    """
    encoders = list(dict.fromkeys(names))
    projections = [] if pca is None else [PcaGoal(name, layers, pca, fit_on) for name in encoders]
    return Pass(dict.fromkeys(encoders, layers), projections=tuple(projections), alias=alias)
