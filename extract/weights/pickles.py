"""Pickled weights, opened here and nowhere else, and kept as safetensors from then on.

A pickle can run code when it is opened. torch's `weights_only` reader builds tensors and plain containers and nothing
else, so a file that asks for more is refused before any of it runs.
"""

import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...cache import EmocacheError
from ...cache.hashing import file_sha256, files_sha256
from .home import check_room, home, make_folder, recall, remember

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
CONVERTED = "model.safetensors"
_ORIGIN = "origin.json"
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")  # in what torch says of code that a pickle names
_NESTED = "state_dict"  # where training frameworks put the weights beside their own affairs


def read_pickle(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a pickled state dict.

    Args:
        file: written by `torch.save`, in the zip format of torch 1.6 and later or the one before it.

    Returns:
        {key: tensor} on the CPU, the keys and types as they are. Where the file has a `state_dict` inside, that.

    Raises:
        EmocacheError: it cannot be read, would run code, or holds anything but tensors; names the entry at fault.
    """
    try:
        # Mapped, a file of any size takes no memory; the format before zip cannot be mapped.
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # torch's for damaged files: RuntimeError, EOFError, ValueError, KeyError...
        if isinstance(error, pickle.UnpicklingError) and (asked := _REFUSED.search(str(error))):
            raise EmocacheError(
                f"{file}: this pickle asks for more than tensors ({asked[1]}), which could run code; it is"
                " not opened. Get the weights as safetensors, or from another source"
            ) from None
        why = next(iter(str(error).strip().splitlines()), type(error).__name__).partition(". ")[0]
        raise EmocacheError(f"{file}: cannot be read as weights ({why}); get it again") from error
    if isinstance(found, Mapping) and isinstance(found.get(_NESTED), Mapping):
        found = found[_NESTED]
    if not isinstance(found, Mapping):
        raise EmocacheError(f"{file}: holds a {type(found).__name__}, expected a state dict of tensors")
    for key, value in found.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise EmocacheError(f"{file}: entry {key!r} is a {type(value).__name__}; a state dict holds tensors only")
    if not found:
        raise EmocacheError(f"{file}: holds no tensor; expected a state dict")
    return dict(found)


def converted(files: Sequence[Path], beside: Iterable[Path] = ()) -> Path:
    """Keep pickled weights as safetensors, once.

    Args:
        files: the pickle, or the shards of one model.
        beside: small files that go with them, such as config.json.

    Returns:
        A folder below the home with `CONVERTED`, copies of `beside`, and the record of where it is from. It is found
        again by the bytes of all these files.

    Raises:
        EmocacheError: see `read_pickle`; a tensor that two shards hold; or no room.
    """
    companions = sorted(beside)
    key = sha256(":".join([files_sha256(files), *(f"{f.name} {file_sha256(f)}" for f in companions)]).encode())
    folder = home() / "converted" / key.hexdigest()[:32]
    if (folder / _ORIGIN).is_file():
        return folder
    weights: dict[str, Tensor] = {}
    for file in files:
        part = read_pickle(file)
        if twice := sorted(weights.keys() & part.keys()):
            raise EmocacheError(f"{file}: entry {twice[0]!r} is in another file of the model too; get the model again")
        weights |= part
    size = sum(tensor.nbytes for tensor in weights.values())
    check_room(folder, size, f"{files[0].name} as safetensors")
    fresh = make_folder(folder.with_name(f".{folder.name}.{os.getpid()}.tmp"))
    try:
        save_file(_apart(weights), fresh / CONVERTED, {"format": "pt"})
        for file in companions:
            shutil.copyfile(file, fresh / file.name)
        remember(
            fresh / _ORIGIN,
            {
                "files": [file.name for file in files],
                "original_sha256": files_sha256(files),
                "converted_sha256": file_sha256(fresh / CONVERTED),
            },
        )
        fresh.rename(folder)
    except OSError as error:
        if not (folder / _ORIGIN).is_file():  # else another process was faster
            raise EmocacheError(f"{folder}: weights cannot be kept there ({error.strerror or error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def weights_sha256(files: Sequence[Path]) -> str:
    """Hash weights as recipes tell them: of converted ones, the bytes of the pickle that they are from.

    So a stream is the same whether its weights came as a pickle or were converted on another machine.

    Args:
        files: of one model.

    Returns:
        sha256, hex.

    Raises:
        EmocacheError: converted weights have changed since.
    """
    folder = files[0].parent
    record = recall(folder / _ORIGIN)
    if record is None or [file.name for file in files] != [CONVERTED]:
        return files_sha256(files)
    if record.get("converted_sha256") != file_sha256(files[0]):
        raise EmocacheError(f"{files[0]}: has changed since it was converted; delete {folder}, it is made again")
    return str(record["original_sha256"])


def _apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory, such as tied embeddings: safetensors keeps each by itself."""
    seen: set[int] = set()
    found = {}
    for key, tensor in weights.items():
        place = tensor.untyped_storage().data_ptr()
        found[key] = tensor.clone(memory_format=torch.contiguous_format) if place in seen else tensor.contiguous()
        seen.add(place)
    return found
