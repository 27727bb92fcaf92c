"""CAMuLeNet: co-attention between spectral features and Whisper's frames, with gender as a second task."""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from ...cache import EmocacheError
from .cnn import fixed_length
from .head import FixedPooling, Frames, Head, HeadSettings, Outputs, Shape, Term
from .layers.attention import masked_softmax
from .layers.packing import states_of
from .layers.pooling import masked_mean

Size = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class CAMuLeNetSettings(HeadSettings):
    """Settings of CAMuLeNet. "As in the code" is the released one, where it differs from the paper or is at fault."""

    kind: Literal["camulenet"] = "camulenet"
    gender: bool = True  # the second task; false: "w/o Multitask"
    coattention: bool = True  # false: the mean of Whisper's frames instead
    coattn_norm: Literal["softmax", "none"] = "softmax"  # none: weights as ReLU gives them, as in the code
    fusion_frames: Size = 1500  # Whisper frames that have a weight; 30 s
    mfcc_pool: Literal["meanmax", "flatten"] = "meanmax"  # flatten: every state has weights of its own, as in the code
    mfcc_frames: Size = 501  # flatten: the first ones, or zeros after them; 5 s
    alexnet: Literal["cached", "trained"] = "cached"  # trained: the spectrogram's frames, not AlexNet's vector
    alexnet_weights: str | None = None  # trained: torchvision's state dict as .safetensors to start from
    spectrogram_frames: Size = 501  # trained: the first ones, or zeros after them; 5 s
    layer_norm: bool = True  # of the fusion vector and of what Whisper's frames become; false: as in the code
    width: Size = 1024  # T of the paper
    gru_hidden: Size = 256  # units per direction
    hidden: Size = 128  # of the two layers that both tasks share
    dropout: Dropout = 0.15
    gru_dropout: Dropout = 0.2  # between the two layers
    emotion_weight: Weight = 0.4  # alpha of the paper; the three are unused without gender
    gender_weight: Weight = 0.1  # beta
    loss_constant: float = 0.2  # gamma, without effect on what is learned

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.alexnet_weights is not None and self.alexnet == "cached":
            raise ValueError("alexnet_weights is where training starts from; set alexnet = 'trained', or leave it out")
        return self

    def roles(self) -> tuple[str, ...]:
        """See `CAMuLeNet.forward`."""
        return ("whisper", "mfcc", "spectrogram")

    def files(self) -> tuple[str, ...]:
        """AlexNet's weights."""
        return () if self.alexnet_weights is None else (self.alexnet_weights,)

    def tasks(self) -> tuple[str, ...]:
        """The loss weighs two cross-entropies."""
        return ("classification",)

    def multitask(self) -> bool:
        """Gender beside emotion."""
        return self.gender

    def fixed_pooling(self, role: str, per_frame: bool) -> FixedPooling | None:
        """A vector stays one, and without co-attention Whisper's mean is all that is used."""
        vector = (role == "spectrogram" and self.alexnet == "cached") or (role == "whisper" and not self.coattention)
        return "mean" if vector else None


class CAMuLeNet(Head[CAMuLeNetSettings]):
    """m of the MFCC, s of the spectrogram, and w of Whisper's frames under weights that come from m and s.

    m = ReLU(FC(BiGRU)), s = ReLU(FC(AlexNet)), g = LN(ReLU(FC([s; m]))), w = LN(ReLU(FC(g^T X))), z = [m; s; w], and
    two layers on z that both tasks share (paper 4, sections 2.1 to 2.4). The weights g are normalised over the valid
    frames of an utterance; frames after the last weight are not used.
    """

    def __init__(self, settings: CAMuLeNetSettings, shape: Shape) -> None:
        super().__init__(settings, shape)
        s = settings
        states = 2 * s.gru_hidden
        self.gru = torch.nn.GRU(
            shape.dims["mfcc"], s.gru_hidden, 2, batch_first=True, bidirectional=True, dropout=s.gru_dropout
        )
        self.mfcc = _dense(states * (2 if s.mfcc_pool == "meanmax" else s.mfcc_frames), s.width)
        self.alexnet = AlexNet(s.alexnet_weights) if s.alexnet == "trained" else None
        self.spectrogram = _dense(shape.dims["spectrogram"] if self.alexnet is None else AlexNet.dim, s.width)
        self.fusion = _dense(2 * s.width, s.fusion_frames, s.layer_norm) if s.coattention else None
        self.whisper = torch.nn.Sequential(
            torch.nn.Dropout(s.dropout), _dense(shape.dims["whisper"], s.width, s.layer_norm)
        )
        self.shared = torch.nn.Sequential(
            torch.nn.Dropout(s.dropout), _dense(3 * s.width, s.hidden), _dense(s.hidden, s.hidden)
        )
        self.emotion = torch.nn.Linear(s.hidden, shape.outputs)
        self.gender = torch.nn.Linear(s.hidden, shape.auxiliary) if s.gender else None

    def forward(self, whisper: Frames, mfcc: Frames, spectrogram: Frames) -> Outputs:
        """Give the logits of the emotions, and of the genders where they are a second task.

        Args:
            whisper: (B, T, D) frames, or (B, 1, D) means without co-attention.
            mfcc: (B, T', 40).
            spectrogram: (B, 1, 9216) of AlexNet, or (B, T'', bands) where that is trained.

        Returns:
            Logits (B, outputs), with z as "embedding" (B, 3 width).
        """
        m = self.mfcc(self._summary(mfcc))
        s = self.spectrogram(self._picture(spectrogram))
        if self.fusion is None:
            attended = masked_mean(whisper.values, whisper.mask)
        else:
            attended = self._attend(self.fusion(torch.cat([s, m], dim=-1)), whisper)
        z = torch.cat([m, s, self.whisper(attended)], dim=-1)
        shared = self.shared(z)
        emotion = self.emotion(shared)
        kept = {"embedding": z}
        if self.gender is None:
            return Outputs(emotion, kept=kept)
        settings = self.settings
        terms = (
            Term(settings.emotion_weight, emotion),
            Term(settings.gender_weight, self.gender(shared), "auxiliary"),
        )
        return Outputs(emotion, terms, kept, settings.loss_constant)

    def _summary(self, mfcc: Frames) -> torch.Tensor:
        """The GRU's states as one vector: (B, 2 x states), or (B, mfcc_frames x states)."""
        states = states_of(self.gru, mfcc.values, mfcc.mask)
        if self.settings.mfcc_pool == "flatten":
            return fixed_length(Frames(states, mfcc.mask), self.settings.mfcc_frames)[0].flatten(1)
        there = mfcc.mask.unsqueeze(-1)
        # States lie in [-1, 1], so -1 is below or equal to all of them.
        highest = states.masked_fill(~there, -1.0).amax(dim=1).masked_fill(~there.any(dim=1), 0.0)
        return torch.cat([masked_mean(states, mfcc.mask), highest], dim=-1)

    def _picture(self, spectrogram: Frames) -> torch.Tensor:
        """(B, 9216); zeros for an utterance without a spectrogram."""
        if self.alexnet is None:
            return masked_mean(spectrogram.values, spectrogram.mask)
        frames, mask = fixed_length(spectrogram, self.settings.spectrogram_frames)
        vectors: torch.Tensor = self.alexnet(frames.transpose(1, 2).unsqueeze(1))
        return vectors.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)

    def _attend(self, scores: torch.Tensor, whisper: Frames) -> torch.Tensor:
        """(B, fusion_frames) scores, of which the first ones are used, and (B, T, D) frames to (B, D)."""
        used = min(scores.shape[1], whisper.mask.shape[1])
        scores, mask = scores[:, :used], whisper.mask[:, :used]
        softmax = self.settings.coattn_norm == "softmax"
        weights = masked_softmax(scores, mask) if softmax else scores.masked_fill(~mask, 0.0)
        return torch.einsum("bt,btd->bd", weights, whisper.values[:, :used])


class AlexNet(torch.nn.Module):
    """The convolutions and the pooling of "one weird trick" AlexNet (Krizhevsky 2014) for pictures of one channel.

    Sizes are torchvision's, so that its `features.*` weights fit but for the first layer, which is Xavier-initialised.

    Args:
        weights: a .safetensors file with torchvision's state dict; None: all layers are freshly initialised.

    Raises:
        EmocacheError: the file cannot be read or holds other weights.
    """

    dim = 9216  # 256 x 6 x 6
    least = 63  # rows and columns that the three poolings need

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        first = torch.nn.Conv2d(1, 64, 11, stride=4, padding=2)
        torch.nn.init.xavier_uniform_(first.weight)
        self.features = torch.nn.Sequential(
            first, torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2),
            torch.nn.Conv2d(64, 192, 5, padding=2), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2),
            torch.nn.Conv2d(192, 384, 3, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(384, 256, 3, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(256, 256, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.pool = torch.nn.AdaptiveAvgPool2d((6, 6))
        if weights is not None:
            self._load(weights)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) to (B, 9216); zeros are added to what is smaller than 63."""
        missing = [max(self.least - size, 0) for size in pictures.shape[2:]]
        pooled: torch.Tensor = self.pool(self.features(functional.pad(pictures, (0, missing[1], 0, missing[0]))))
        return pooled.flatten(1)

    def _load(self, file: str) -> None:
        try:
            stored = load_file(file)
        except (OSError, SafetensorError) as error:
            raise EmocacheError(f"head.alexnet_weights {file}: cannot be read as safetensors: {error}; save"
                                " torchvision's AlexNet with safetensors.torch.save_file") from error  # fmt: skip
        # Not the first layer: torchvision's takes three channels, and a spectrogram has one.
        wanted = {f"features.{key}": w for key, w in self.features.state_dict().items() if not key.startswith("0.")}
        for key, weight in wanted.items():
            found = list(stored[key].shape) if key in stored else "absent"
            if found != list(weight.shape):
                raise EmocacheError(f"head.alexnet_weights {file}: {key} is {found}, not {list(weight.shape)}; give"
                                    " torchvision's AlexNet")  # fmt: skip
            weight.copy_(stored[key])


def _dense(before: int, after: int, norm: bool = False) -> torch.nn.Sequential:
    """Linear layer, ReLU, and layer normalisation where asked for."""
    last = [torch.nn.LayerNorm(after)] if norm else []
    return torch.nn.Sequential(torch.nn.Linear(before, after), torch.nn.ReLU(), *last)
