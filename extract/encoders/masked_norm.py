"""Layers that see each clip of a padded batch as if it were alone.

A convolution sees zeros around a clip that is alone, and what earlier layers left there around one that is padded. The
first convolution of group-norm checkpoints (wav2vec 2.0 base and large, HuBERT base, WavLM base) normalises each
channel over all time, so zeros appended to a clip change every one of its frames, with an attention mask or without.

None of this asks the device for a value: the host goes on launching.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask


class MaskedGroupNorm(nn.Module):
    """GroupNorm over each clip's valid positions.

    Each clip is normalised by itself, with the very operation it would see alone; positions after its end become 0.
    Set `lengths` before the model runs.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm
        self.lengths: Sequence[int] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, T); positions after a clip's end become 0."""
        _check(self.lengths, x)
        out = x
        for clip, length in enumerate(self.lengths):
            # Cut out, not masked: sums over padding, even of zeros, would be rounded otherwise than those of the clip.
            valid = self.norm(x[clip : clip + 1, :, :length])
            if clip == 0:  # autocast computes norms in float32, whatever goes in
                out = valid.new_zeros(x.shape)
            out[clip : clip + 1, :, :length] = valid
        return out


class MaskedBatchNorm(nn.Module):
    """BatchNorm (with its fixed statistics) whose output after each clip's end is 0, as a convolution pads.

    For HuBERT checkpoints with `conv_pos_batch_norm`. Set `lengths` before the model runs.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.lengths: Sequence[int] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, T); positions after a clip's end become 0."""
        return _zeroed(self.norm(x), self.lengths)


class MaskedConvolution(nn.Module):
    """A convolution over time whose input after each clip's end is 0, as it pads a clip that is alone.

    For convolutions behind other layers: the positional ones of data2vec, those of a conformer's blocks. Set `lengths`
    before the model runs.
    """

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.lengths: Sequence[int] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, T)."""
        convolved: Tensor = self.convolution(_zeroed(x, self.lengths))
        return convolved


class FrameMask:
    """Attention that passes over frames behind each clip's end, and zeros for them in front of the first layer.

    A model of transformers does the same where it is given an `attention_mask`, but it asks the device which frames
    these are and if there are any: the host waits there for all that was launched before. It knows the lengths, though.
    Set `lengths` before the model runs, and give it no mask.

    Args:
        model: with an `encoder` that has `layers`; hooks are put on them.
        send: copies to the model's device without waiting, see `Runtime.send`.
    """

    def __init__(self, model: Any, send: Callable[[Tensor], Tensor]) -> None:
        self.lengths: Sequence[int] = ()
        self._config = model.config
        self._send = send
        self._masks: dict[str, Any] = {}  # what the layers are given, by name
        model.encoder.register_forward_pre_hook(self._enter, with_kwargs=True)
        model.encoder.register_forward_hook(lambda *_: self._masks.clear())
        for layer in model.encoder.layers:
            layer.register_forward_pre_hook(self._give, with_kwargs=True)

    def _enter(self, _module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        (hidden,) = given
        _check(self.lengths, hidden)
        self._masks = {}
        if min(self.lengths) == max(self.lengths):
            return None
        valid = torch.arange(hidden.shape[1], device=hidden.device) < self._send(torch.tensor(self.lengths))[:, None]
        hidden = hidden.masked_fill(~valid[..., None], 0.0)
        attended: Any = valid
        if self._config.model_type != "wavlm":  # whose layers take it as it is
            attended = create_bidirectional_mask(self._config, hidden, valid, allow_is_bidirectional_skip=False)
        self._masks = {"attention_mask": attended, "conv_attention_mask": valid}
        return (hidden,), named

    def _give(self, _module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return given, named | {name: mask for name, mask in self._masks.items() if name in named}


def _zeroed(x: Tensor, lengths: Sequence[int]) -> Tensor:
    _check(lengths, x)
    out = x.clone()
    for clip, length in enumerate(lengths):
        out[clip, :, length:] = 0
    return out


def _check(lengths: Sequence[int], x: Tensor) -> None:
    if len(lengths) != len(x):
        raise ValueError(f"{len(lengths)} lengths for a batch of {len(x)}; set them before the model runs")
