"""Running frozen transformers models: device, precision, loading, and the outputs of chosen layers."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...cache import EmocacheError
from ...cache.device import choose_device, full_precision, room_on
from .checkpoints import Checkpoint, first_line
from .encoder import Layers

Key = TypeVar("Key")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Weights that inference never touches, which some checkpoints therefore lack.
_UNUSED = re.compile(r"(^|\.)(pooler\.|masked_spec_embed$)")
_NARROW = 16  # channels of a group
# Passes overlap on the device, but are launched one at a time: hooks and masked norms belong to the model, the flags of
# `full_precision` to the process, and it is while it is launched that a pass takes its memory.
_LAUNCHING = threading.RLock()


@dataclass(frozen=True, slots=True)
class Runtime:
    """The device and the precision that a model runs with."""

    device: torch.device
    precision: str  # "float32", "bf16" or "fp16"

    @classmethod
    def create(cls, device: str, precision: str) -> "Runtime":
        """Pick the device.

        Args:
            device: see `choose_device`.
            precision: "float32", "bf16" or "fp16".

        Returns:
            The runtime; nothing is put on the device yet.

        Raises:
            EmocacheError: there is no such device.
        """
        return cls(torch.device(choose_device(device)), precision)

    @property
    def reduced(self) -> torch.dtype | None:
        """The type that `model` computes in where it can; None for float32."""
        return _AUTOCAST.get(self.precision)

    @property
    def few(self) -> int:
        """Windows of one long clip that go through the model together: what keeps the device busy in little memory."""
        return 8 if self.device.type == "cuda" else 2

    @property
    def pictures(self) -> int:
        """Pictures of one clip that go through a network together; bounds memory on long clips."""
        return 256 if self.device.type == "cuda" else 32

    def send(self, batch: Tensor) -> Tensor:
        """Copy to the device, from pinned memory if that is a GPU, without waiting."""
        # From other memory the copy would wait for all that the device still has to do.
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch

    def fetch(self, found: Mapping[Key, Tensor]) -> dict[Key, npt.NDArray[np.float32]]:
        """Copy tensors to the host as float32, all in one go.

        Only the launch of the copies keeps other threads from launching theirs; the wait for them does not. They are
        copied in the type that they were computed in, into pinned memory.
        """
        if self.device.type != "cuda":
            return {key: tensor.float().numpy() for key, tensor in found.items()}
        with _LAUNCHING, torch.inference_mode():
            pinned = {key: torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for key, t in found.items()}
            for key, tensor in found.items():
                pinned[key].copy_(tensor, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(torch.cuda.current_stream(self.device))
        done.synchronize()
        return {key: tensor.float().numpy() for key, tensor in pinned.items()}

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Run front ends: no gradients, no autocast, no TF32, deterministic kernels, one thread at a time.

        Waiting for the device, as `fetch` does, belongs outside, or no other thread can go on meanwhile.
        """
        with _LAUNCHING, torch.inference_mode(), full_precision():
            yield

    @contextmanager
    def model(self) -> Iterator[None]:
        """Run the model itself: like `exact`, with autocast to the precision asked for."""
        with self.exact(), torch.autocast(self.device.type, self.reduced) if self.reduced else nullcontext():
            yield

    def load(self, model_class: Any, checkpoint: Checkpoint, **options: Any) -> Any:
        """Load a checkpoint's weights into a model of a transformers class.

        Attention is transformers' own choice: `sdpa` where the model supports it, else eager (WavLM).

        Args:
            model_class: such as `AutoModel`; its `from_pretrained` is called.
            checkpoint: checked first, see `Checkpoint.check`.
            **options: more arguments of `from_pretrained`.

        Returns:
            The model in float32, on the device, to be run only.

        Raises:
            EmocacheError: the weights cannot be read, do not fit, or some are missing or left over.
        """
        checkpoint.check()
        try:
            with quiet():
                model, report = model_class.from_pretrained(
                    checkpoint.folder, local_files_only=True, use_safetensors=True, trust_remote_code=False,
                    dtype=torch.float32, output_loading_info=True, **options,
                )  # fmt: skip
                model = model.eval().requires_grad_(False).to(self.device)
        except Exception as error:  # safetensors, json, shape, version and memory errors share no base class
            raise EmocacheError(f"{checkpoint.folder}: the checkpoint cannot be loaded: {first_line(error)}") from error
        # transformers gives missing weights random numbers and drops those left over, and only logs it.
        missing = sorted(key for key in report["missing_keys"] if not _UNUSED.search(key))
        if missing:
            raise EmocacheError(
                f"{checkpoint.folder}: {len(missing)} weights of a {checkpoint.model_type} model are missing, such as"
                f" {missing[0]}; is this a complete checkpoint of that kind?"
            )
        left = sorted(key for key in report["unexpected_keys"] if _belongs(key, model))
        if left:
            raise EmocacheError(
                f"{checkpoint.folder}: {len(left)} weights have no place in a {checkpoint.model_type} model of"
                f" transformers, such as {left[0]}; without them it would give other numbers"
            )
        if self.device.type == "cpu" and self.precision in _AUTOCAST:
            _widen_narrow_groups(model)
        return model


def _widen_narrow_groups(model: nn.Module) -> None:
    """Run convolutions of few channels a group in float32.

    On processors with AMX, oneDNN (of torch 2.13) gives wrong values for them in bf16 where the kernel is wide, such as
    128 frames: as far from the right ones as these are from zero. From 16 channels a group on it is right.
    """

    # A function of its own, so that each convolution keeps its own `forward`, not the loop's last.
    def wrap(convolution: nn.Module) -> None:
        forward = convolution.forward

        def in_float32(values: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return forward(values.float())  # type: ignore[no-any-return]

        convolution.forward = in_float32

    for module in model.modules():
        if isinstance(module, nn.Conv1d) and module.groups > 1 and module.in_channels // module.groups < _NARROW:
            wrap(module)


def _belongs(key: str, model: nn.Module) -> bool:
    """Tell if a weight's name is one of the model itself, not of a head on it or of the other half of a Whisper."""
    # Checkpoints of a model with a head put the model's prefix before its names; those of the bare model do not.
    parts = {name for name, _ in model.named_children()}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return key.split(".")[0] in parts or key.removeprefix(prefix).split(".")[0] in parts


def device_memory(device: str) -> Callable[[], tuple[int, int]]:
    """Watch how much of a GPU's memory passes take.

    What the device holds when this is called, the weights, is not counted.

    Args:
        device: "auto", "cuda" or "cuda:1", and there is one.

    Returns:
        A function that tells the bytes that passes took at most since its last call, and those they could take.
    """
    chosen = torch.device("cuda" if device == "auto" else device)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    weights = torch.cuda.memory_allocated(chosen)
    torch.cuda.reset_peak_memory_stats(chosen)

    def memory() -> tuple[int, int]:
        taken = torch.cuda.max_memory_allocated(chosen) - weights
        torch.cuda.reset_peak_memory_stats(chosen)
        # What passes under way hold, the next one can take.
        return taken, room_on(chosen) + torch.cuda.memory_allocated(chosen) - weights

    return memory


@contextmanager
def captured(blocks: nn.Module, layers: Layers) -> Iterator[Mapping[int, Tensor]]:
    """Collect the outputs of some of a model's transformer layers during a forward pass.

    Only the layers asked for are kept in memory.

    Args:
        blocks: the model's list of layers.
        layers: i for the output of the i-th one, 0 for the input of the first; None is left to the caller, who has
            the model's own last hidden state.

    Yields:
        {i: (B, T, D)}, filled once the model has run.
    """
    stack = list(blocks.children())
    found: dict[int, Tensor] = {}
    handles = []

    def keep_input(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[0] = inputs[0]

    def keep_output(layer: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    # A set: a hook for every layer once, however often it was asked for.
    for layer in {layer for layer in layers if layer is not None}:
        # Taken as the first block's input, it has position embeddings and any norm in front of the block in it.
        if layer == 0:
            handles.append(stack[0].register_forward_pre_hook(keep_input))
        else:
            handles.append(stack[layer - 1].register_forward_hook(keep_output(layer)))
    try:
        yield found
    finally:
        # The model outlives the pass: hooks left behind would keep its tensors alive and be run by the next one.
        for handle in handles:
            handle.remove()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers."""
    from transformers.utils import logging as chatter

    level, bar = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.ERROR)
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bar:
            chatter.enable_progress_bar()  # type: ignore[no-untyped-call]
