# mypy: disable-error-code="arg-type, assignment, call-overload, no-untyped-call, no-any-return, override"
"""A pretend CUDA device: tensors that say cuda:0 and hold their values on the CPU.

It refuses every operation that mixes devices, as CUDA does, and counts what a real one would copy and make the host
wait for. It computes on the CPU, so its numbers are the CPU's.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "Pretend GPU"
GIGABYTE = 1 << 30
DEVICE = torch.device("cuda:0")
aten = torch.ops.aten
_WAITS = {aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2, aten.is_nonzero}
"""What needs a value, or a size that is a value, on the host."""
_MIXED = {aten.copy_, aten._pack_padded_sequence, aten._pack_padded_sequence_backward}
"""What may take tensors of the device and of the host: copies, and lengths."""
_INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class OnDevice(torch.Tensor):
    """A tensor of the device; `held` is its content. torch itself takes it for one of the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        """Make one."""
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device="cpu", requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    device = DEVICE
    is_cuda = True
    is_cpu = False

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse: the modes see to every operation, as long as the device is there."""
        raise RuntimeError(f"{function}: the pretend device is gone")

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({tuple(self.size())}, {self.dtype})"


class _ToDevice(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, tensor: torch.Tensor) -> torch.Tensor:
        return OnDevice(tensor.detach().clone())

    @staticmethod
    def backward(_: Any, grad: Any) -> Any:
        return _held(grad)


class _ToHost(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, tensor: Any) -> torch.Tensor:
        return tensor.held.clone()

    @staticmethod
    def backward(_: Any, grad: Any) -> Any:
        return grad if isinstance(grad, OnDevice) else OnDevice(grad)


class PretendCuda(TorchDispatchMode):
    """The device, while it is there.

    Attributes:
        counts: "to device" and "to host" copies, "pageable" ones among those to the device, and "waits" of the host.
        operations: run on the device, by name.
        fail: called with the name of each of them, to fail as one.
        free: bytes that the driver has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.fail: Callable[[str], None] = lambda name: None
        self.free = 64 * GIGABYTE
        self.pinned: dict[int, torch.Tensor] = {}
        self.lock: Any = None  # an RLock that no thread should wait for the device with
        self.inside = 0  # functions of torch that were given tensors of the device

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation where its tensors are."""
        kwargs = kwargs or {}
        packet = function.overloadpacket
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        if not any(isinstance(one, OnDevice) for one in tensors):
            made = function(*args, **kwargs)
            # Inside its functions, and backwards, torch makes numbers where it takes those it was given to be.
            numbers = not tensors and isinstance(made, torch.Tensor)
            numbers = numbers and (made.is_floating_point() or packet is aten.arange)  # not lengths
            return OnDevice(made) if self.inside and numbers else made
        plain = [one for one in tensors if not isinstance(one, OnDevice)]
        others = [one for one in plain if one.dim() and one.numel()]
        if others and packet in _INDEXED:  # an index may lie on the host, which copies it
            self.counted(to_device=True, waits=True)
        elif packet is aten.copy_:
            return self._copied(*args, **kwargs)
        elif others and packet not in _MIXED:
            raise RuntimeError(f"Expected all tensors to be on the same device, {function}: cuda:0 and cpu")
        by_mask = packet in _INDEXED and any(one.dtype in (torch.bool, torch.uint8) for one in tensors[1:])
        unknown = packet is aten.repeat_interleave and kwargs.get("output_size") is None
        self.wait(packet in _WAITS or by_mask or unknown)
        self.fail(str(packet))
        self.operations[str(packet)] += 1
        known = {id(one.held): one for one in tensors if isinstance(one, OnDevice)}
        out = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if packet in (aten._local_scalar_dense, aten.equal):
            return out

        def back(one: Any) -> Any:
            return known.get(id(one), OnDevice(one)) if isinstance(one, torch.Tensor) else one

        if packet is aten._pack_padded_sequence:  # the sizes of steps belong to the host
            return back(out[0]), out[1]
        return tree_map(back, out)

    def _copied(self, to: Any, source: Any, non_blocking: bool = False) -> Any:
        here, there = isinstance(source, OnDevice), isinstance(to, OnDevice)
        pageable = id(source if there else to) not in self.pinned
        if here != there:
            self.counted(to_device=there, waits=pageable or not non_blocking, pageable=pageable)
            self.counts["to host"] += here
        self.operations["copy"] += 1
        _held(to).copy_(_held(source))
        return to

    def counted(self, to_device: bool, waits: bool, pageable: bool = True) -> None:
        """Count a copy."""
        if to_device:
            self.counts.update({"to device": 1, "pageable": pageable})
        self.wait(waits)

    def wait(self, times: int = 1) -> None:
        """Count waits of the host, and those while it holds the lock."""
        self.counts["waits"] += times
        self.counts["waits in the lock"] += times if self.lock is not None and self.lock._is_owned() else 0


class _Copies(TorchFunctionMode):
    """What moves a tensor, or makes one on the device."""

    def __init__(self, device: PretendCuda) -> None:
        super().__init__()
        self.of = device

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu):
            return self._move(function, args, kwargs)
        if isinstance(args[0] if args else None, OnDevice) and function in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if function is torch.Tensor.type_as and isinstance(args[1], OnDevice) and not isinstance(args[0], OnDevice):
            return self._move(torch.Tensor.to, args, kwargs)
        if function is torch.Tensor.tolist and isinstance(args[0], OnDevice):
            return self._move(torch.Tensor.cpu, args, {}).tolist()
        if function is torch.Tensor.pin_memory:
            pinned = args[0].clone()
            self.of.pinned[id(pinned)] = pinned  # kept, so that its id stays its own
            return pinned
        if function is torch.Tensor.record_stream:
            return None
        if kwargs.pop("pin_memory", False):
            pinned = function(*args, **kwargs)
            self.of.pinned[id(pinned)] = pinned
            return pinned
        given = any(isinstance(one, OnDevice) for one in tree_flatten((args, kwargs))[0])
        wanted = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else ""
        if wanted != "cuda" and not (given and wanted == "cpu"):
            self.of.inside += given
            try:
                return function(*args, **kwargs)
            finally:
                self.of.inside -= given
        kwargs["device"] = "cpu"
        made = function(*args, **kwargs)
        if wanted == "cuda":
            return made if isinstance(made, OnDevice) else _ToDevice.apply(made)
        return _held(made)

    def _move(self, function: Any, args: Any, kwargs: Any) -> Any:
        source, *rest = args
        here = "cuda" if isinstance(source, OnDevice) else "cpu"
        there, kept = here, []
        if function is not torch.Tensor.to:
            there = "cuda" if function is torch.Tensor.cuda else "cpu"
        for one in [*rest, kwargs.pop("device", None)]:
            if isinstance(one, torch.Tensor):
                there = one.device.type
                kept.append(one.dtype)
            elif isinstance(one, str | torch.device):
                there = torch.device(one).type
            elif one is not None:
                kept.append(one)
        kept = [one for one in kept if not isinstance(one, bool)]  # non_blocking, copy
        blocking = not (kwargs.pop("non_blocking", False) or True in [r for r in rest if isinstance(r, bool)][:1])
        kwargs.pop("copy", None)
        moved = source
        if (here, there) == ("cpu", "cuda"):
            pinned = id(source) in self.of.pinned
            self.of.counted(True, blocking or not pinned, not pinned)
            moved = _ToDevice.apply(source)
        elif (here, there) == ("cuda", "cpu"):
            self.of.counts["to host"] += 1
            self.of.wait(blocking)
            moved = _ToHost.apply(source)
        return torch.Tensor.to(moved, *kept, **kwargs) if kept or kwargs else moved


def _held(one: Any) -> Any:
    return one.held if isinstance(one, OnDevice) else one


@contextmanager
def pretend_cuda() -> Iterator[PretendCuda]:
    """The device is there, and torch.cuda tells of it, until the end of the block."""
    device = PretendCuda()
    state, autocast = torch.get_rng_state, torch.autocast

    def event() -> Any:
        return mock.Mock(record=lambda *_: None, synchronize=lambda: device.wait())

    properties = mock.Mock(total_memory=80 * GIGABYTE, major=9, minor=0)
    told: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "init": lambda: None,
        "get_device_name": lambda *_: NAME,
        "get_device_properties": lambda *_: properties,
        "is_bf16_supported": lambda *_: True,
        "mem_get_info": lambda *_: (device.free, 80 * GIGABYTE),
        "memory_allocated": lambda *_: 0,
        "memory_reserved": lambda *_: 0,
        "max_memory_allocated": lambda *_: GIGABYTE,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "synchronize": lambda *_: device.wait(),
        "current_stream": lambda *_: None,
        "Event": event,
        "get_rng_state": lambda *_: state(),
        "set_rng_state": lambda *_: None,
        "manual_seed_all": lambda _: None,
    }
    patches = [
        mock.patch.multiple(torch.cuda, **told),
        mock.patch.object(torch, "inference_mode", torch.no_grad),  # whose tensors cannot be wrapped
        mock.patch.object(torch.backends.cudnn, "is_acceptable", lambda _: False),
        mock.patch.object(torch, "autocast", lambda _, *more, **given: autocast("cpu", *more, **given)),
    ]  # fmt: skip
    for one in patches:
        one.start()
    # A parameter that moves becomes another one: its class tells where it is.
    usual = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Copies(device), device:
            yield device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(usual)
        for one in reversed(patches):
            one.stop()
