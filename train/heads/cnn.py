"""Convolutions over frozen embeddings: the encoder baselines of CAMuLeNet's paper, sections 4.1 and 4.2."""

from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch.nn import functional

from ...cache import EmocacheError
from .head import PER_UTTERANCE, FixedPooling, Frames, Head, HeadSettings, Outputs, Shape
from .layers.batch_norm import MaskedBatchNorm


class CNN1DSettings(HeadSettings):
    """Settings of the convolution over an utterance's mean vector."""

    kind: Literal["cnn1d"] = "cnn1d"
    channels: Annotated[int, Field(ge=1)] = 32
    hidden: Annotated[int, Field(ge=1)] = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3

    def tasks(self) -> tuple[str, ...]:
        """One output an utterance."""
        return PER_UTTERANCE

    def fixed_pooling(self, role: str, per_frame: bool) -> FixedPooling | None:
        """The mean is all that the convolution sees."""
        return "mean"


class CNN1D(Head[CNN1DSettings]):
    """Convolution over the D dimensions of the mean frame, batch normalisation, ReLU, pooling, two linear layers.

    Neighbouring dimensions of an embedding have nothing in common that a convolution could find; it is the paper's
    baseline, and the probe is its control.
    """

    def __init__(self, settings: CNN1DSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.layers = torch.nn.Sequential(
            torch.nn.Conv1d(1, s.channels, 3, padding=1),
            torch.nn.BatchNorm1d(s.channels),
            torch.nn.ReLU(),
            torch.nn.MaxPool1d(2),
            torch.nn.Dropout(s.dropout),
            torch.nn.Flatten(),
            torch.nn.Linear(s.channels * (shape.dim // 2), s.hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(s.hidden, shape.outputs),
        )

    def output_layer(self) -> torch.nn.Linear:
        """The last of all."""
        return cast(torch.nn.Linear, self.layers[-1])

    def forward(self, frames: Frames) -> Outputs:
        """(B, 1, D) of mean vectors to (B, outputs), with the vectors as "embedding" (B, D)."""
        return Outputs(self.layers(frames.values), kept={"embedding": frames.values[:, 0]})


class CNN2DSettings(HeadSettings):
    """Settings of the convolutions over frames and dimensions."""

    kind: Literal["cnn2d"] = "cnn2d"
    frames: Annotated[int, Field(ge=1)] = 1500  # later frames are left out, and zeros follow shorter utterances
    channels: tuple[Annotated[int, Field(ge=1)], ...] = (16, 32, 64, 128)  # of each block
    kernels: tuple[Annotated[int, Field(ge=2)], ...] = (3, 3, 5, 5)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128, 32, 16)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25  # after each block

    @model_validator(mode="after")
    def _same_number(self) -> Self:
        if len(self.channels) != len(self.kernels):
            raise ValueError(f"channels names {len(self.channels)} blocks and kernels {len(self.kernels)};"
                             " give one of each for a block")  # fmt: skip
        return self

    def tasks(self) -> tuple[str, ...]:
        """One output an utterance."""
        return PER_UTTERANCE


class CNN2D(Head[CNN2DSettings]):
    """Blocks of convolution, ReLU, batch normalisation and pooling over a picture of frames x dimensions.

    The picture has a fixed number of frames. What follows an utterance is zero in front of every block, and does not
    count in the batch normalisation.
    """

    def __init__(self, settings: CNN2DSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        self.blocks = torch.nn.ModuleList(
            _Block(before, after, kernel, s.dropout)
            for before, after, kernel in zip((1, *s.channels), s.channels, s.kernels, strict=False)
        )
        width = self._flattened(shape.dim)
        layers: list[torch.nn.Module] = []
        for after in s.hidden:
            layers += [torch.nn.Linear(width, after), torch.nn.ReLU()]
            width = after
        self.output = torch.nn.Sequential(*layers, torch.nn.Linear(width, shape.outputs))
        for module in self.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.zeros_(cast(torch.Tensor, module.bias))

    def forward(self, frames: Frames) -> torch.Tensor:
        """(B, T, D) to (B, outputs)."""
        values, mask = fixed_length(frames, self.settings.frames)
        pictures, valid = values.unsqueeze(1), mask.float()
        for block in self.blocks:
            pictures, valid = block(pictures, valid)
        return cast(torch.Tensor, self.output(pictures.flatten(1)))

    def _flattened(self, dim: int) -> int:
        """Values that the blocks leave of a picture."""
        s = self.settings
        rows, columns = s.frames, dim
        for kernel in s.kernels:
            # A convolution with stride 2 and padding 1, then a pooling by 2.
            rows, columns = (((size - kernel) // 2 + 2) // 2 for size in (rows, columns))
        if min(rows, columns) < 1:
            raise EmocacheError(f"head 'cnn2d': {len(s.channels)} blocks leave nothing of {s.frames} frames of {dim}"
                                " dimensions; set head.frames higher, take a larger encoder, or shorten head.channels"
                                " and head.kernels")  # fmt: skip
        return s.channels[-1] * rows * columns


class _Block(torch.nn.Module):
    def __init__(self, before: int, after: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.convolution = torch.nn.Conv2d(before, after, kernel, stride=2, padding=1)
        self.norm = MaskedBatchNorm(after)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, pictures: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, C, T, W), and (B, T) with 1 for valid rows and 0 for others, to the same after a quarter of the rows.

        A row is valid where the convolution or the pooling reads a valid one.
        """
        found = torch.relu(self.convolution(pictures))
        valid = functional.max_pool1d(valid, self.kernel, stride=2, padding=1)
        found = self.norm(found.transpose(1, 2), valid > 0).transpose(1, 2)
        return self.dropout(functional.max_pool2d(found, 2)), functional.max_pool1d(valid, 2)


def fixed_length(frames: Frames, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `count` frames, zeros after shorter utterances: (B, count, D) float32 and their mask (B, count)."""
    missing = count - frames.mask.shape[1]
    values = frames.values.masked_fill(~frames.mask.unsqueeze(-1), 0.0)
    # Negative padding cuts.
    return functional.pad(values, (0, 0, 0, missing)), functional.pad(frames.mask, (0, missing))
