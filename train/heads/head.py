"""The base of every head, with its settings, its inputs and its outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, cast

import torch
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

FixedPooling = Literal["mean", "mean_std", "mean_std_delta"]
POOLED_PARTS: Mapping[FixedPooling, int] = {"mean": 1, "mean_std": 2, "mean_std_delta": 4}
"""Times the channels of a stream that each fixed pooling gives, see `inputs.vectors.pool`."""


@dataclass(frozen=True, eq=False)
class Frames:
    """One input of a batch: B utterances, padded to the longest.

    Attributes:
        values: (B, T, D) float32; zero where the mask is false.
        mask: (B, T) bool, the valid frames: a prefix of each row, which is empty where the utterance lacks this input.
        segments: (B, L, 2) int64, where each piece of the utterance starts and stops in `values`; 0, 0 past the last
            piece. Only for heads whose settings ask for it.
        valid: (B, T, D) bool, where the streams of this input have something, which on a grid they may not; None where
            they do at every frame of the mask. Values are zero elsewhere.
        words: (B, T) int64, the number of each frame's word, -1 for one that training never saw. Only for inputs
            whose word vectors are learned.
    """

    values: torch.Tensor
    mask: torch.Tensor
    segments: torch.Tensor | None = None
    words: torch.Tensor | None = None
    valid: torch.Tensor | None = None

    @property
    def lengths(self) -> torch.Tensor:
        """(B,) int64, valid frames."""
        return self.mask.sum(dim=1)


class Term(NamedTuple):
    """One addend of a head's loss."""

    weight: float
    output: torch.Tensor  # of the shape of the head's prediction; (B, C') logits where the target is "auxiliary"
    target: Literal["main", "auxiliary"] = "main"


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of a head that learns from more than its prediction, or shows how it came to it.

    Attributes:
        prediction: (B, outputs) logits or values, or (B, T, outputs): what is scored.
        terms: what the loss adds up; empty: the prediction alone.
        kept: (B, ...) by name, what `keep` may store of each utterance. (B, T, ...) is cut to the frames of the first
            input that are valid.
        constant: added to the loss; changes nothing but the numbers that are logged.
    """

    prediction: torch.Tensor
    terms: tuple[Term, ...] = ()
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)
    constant: float = 0.0

    def __post_init__(self) -> None:
        if not self.terms:
            object.__setattr__(self, "terms", (Term(1.0, self.prediction),))


def as_outputs(outputs: torch.Tensor | Outputs) -> Outputs:
    """A bare prediction as `Outputs`."""
    return outputs if isinstance(outputs, Outputs) else Outputs(outputs)


class Segments(NamedTuple):
    """The way in which an input is cut into pieces, see `cache.frames.segments`."""

    role: str  # the input that is cut
    by: str  # the input whose frames are the words
    kind: Literal["words", "equal"]  # one piece a word, or as many equal ones
    overlap: float  # share of a piece's length by which it grows
    max_frames: int  # longer pieces lose their end


PER_UTTERANCE = ("classification", "regression", "distribution")
"""The tasks with one output an utterance."""


class HeadSettings(BaseModel):
    """The `[head]` table of an experiment; every head adds its own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str

    def roles(self) -> tuple[str, ...]:
        """The inputs, in the order in which `forward` takes them."""
        return ("frames",)

    def tasks(self) -> tuple[str, ...]:
        """The tasks the head is for."""
        return (*PER_UTTERANCE, "frame_regression")

    def multitask(self) -> bool:
        """Tell whether the head has a second output, trained towards the label column `auxiliary`."""
        return False

    def fixed_pooling(self, role: str, per_frame: bool) -> FixedPooling | None:
        """The parameterless pooling that may be applied to an input once, before training; None: give it frames."""
        return None

    def segments(self) -> Segments | None:
        """The input that the head takes in pieces, if any."""
        return None

    def files(self) -> tuple[str, ...]:
        """Files that the head's first weights come from; their content is part of a run's identity."""
        return ()

    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value that the head can give, such as 0 and 1 of a sigmoid; None: there are none.

        Targets of a bounded head are never standardised.
        """
        return None

    def diagnostic(self) -> str | None:
        """Why what the head gives is no prediction, such as decoding from true labels; None: it is one."""
        return None


class Shape(NamedTuple):
    """The sizes that a head is built for.

    Attributes:
        dims: {role: D}. outputs: number of classes, or of targets. per_frame: (B, T, outputs) instead of (B, outputs).
        auxiliary: number of classes of the second output; 0 without one.
    """

    dims: Mapping[str, int]
    outputs: int
    per_frame: bool = False
    auxiliary: int = 0

    @property
    def dim(self) -> int:
        """D of the only input."""
        (dim,) = self.dims.values()
        return dim


# Covariant, with a default: code that trains any head writes `Head`, and takes a `Head[CATSSettings]` as one.
S = TypeVar("S", bound=HeadSettings, default=HeadSettings, covariant=True)


class Head(torch.nn.Module, Generic[S]):
    """A module from masked frames to logits or values, built as `Head(settings, shape)`; generic in its settings.

    `forward` takes a `Frames` for every role, in the order of `settings.roles()`, and gives (B, outputs), or
    (B, T, outputs) where `shape.per_frame`, as a tensor or in `Outputs`. An utterance's valid outputs depend neither
    on the batch it is in nor on its padding. An input that an utterance lacks counts as zeros after pooling or
    attention.
    """

    # `forward` is not declared here: heads differ in how many inputs it takes, and torch's own takes any.
    teacher: Literal["never", "training", "always"] = "never"
    """When `forward` is given the true values as well, as `teacher=` (B, T, outputs)."""

    def __init__(self, settings: S, shape: Shape) -> None:
        super().__init__()
        self.settings = settings
        self.shape = shape

    @property
    def per_frame(self) -> bool:
        """True where outputs are (B, T, outputs)."""
        return self.shape.per_frame

    def output_layer(self) -> torch.nn.Linear:
        """The linear layer that gives the values: `self.output`, or the last of it."""
        output = cast(torch.nn.Module, self.output)
        return [module for module in output.modules() if isinstance(module, torch.nn.Linear)][-1]

    @torch.no_grad()
    def start_at(self, values: torch.Tensor) -> None:
        """Let the biases of the output start at (outputs,) values; only for heads that are not bounded."""
        self.output_layer().bias.copy_(values)
