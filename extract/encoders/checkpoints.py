"""Where a checkpoint comes from, what kind it is, and the hashes that identify it."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...cache import EmocacheError
from ...cache.recipe import canonical_json
from .registry import FAMILY_OF_MODEL_TYPE, REGISTRY, VARIANTS, EncoderEntry

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "sentencepiece.bpe.model",
)  # fmt: skip
_WEIGHTS = "model.safetensors"
_GENERATION = "generation_config.json"
_PICKLED = frozenset((".pt", ".pth", ".bin"))
_ADAPTER = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
_DOWNLOADED = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    _GENERATION,
    *_TOKENIZER_FILES,
    _WEIGHTS,
    _INDEX,
    "model-*.safetensors",
]
# A library version and a path say nothing about the numbers, and the recipe may not depend on them.
_VOLATILE = ("_name_or_path", "transformers_version")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with config.json and safetensors weights."""

    folder: Path
    config: dict[str, Any]

    @property
    def model_type(self) -> str:
        """The kind of model, such as "hubert"."""
        return str(self.config.get("model_type"))

    @property
    def family(self) -> str:
        """The family that can run it.

        Raises:
            EmocacheError: no family can.
        """
        family = FAMILY_OF_MODEL_TYPE.get(self.model_type)
        if family is None:
            known = ", ".join(sorted(FAMILY_OF_MODEL_TYPE))
            raise EmocacheError(
                f"{self.folder}: config.json says model_type {self.model_type!r}, which no encoder here can run;"
                f" known are {known}"
            )
        return family

    def weight_files(self) -> list[Path]:
        """The safetensors files, in a fixed order.

        Raises:
            EmocacheError: there are none, one that the index names is missing, or the index is not one.
        """
        if (self.folder / _WEIGHTS).is_file():
            return [self.folder / _WEIGHTS]
        index = read_json(self.folder / _INDEX)
        if index is None:
            found = ", ".join(sorted(p.name for p in self.folder.glob("*.bin"))) or "no weights"
            raise EmocacheError(
                f"{self.folder}: expected {_WEIGHTS}, found {found}; docs/encoders.md shows how to convert a checkpoint"
            )
        names = index.get("weight_map")
        names = list(names.values()) if isinstance(names, dict) else []
        if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
            raise EmocacheError(
                f"{self.folder / _INDEX}: weight_map does not name files beside it; copy the checkpoint again"
            )
        files = [self.folder / name for name in sorted(set(names))]
        for file in files:
            if not file.is_file():
                raise EmocacheError(f"{file} is missing, though {_INDEX} names it; copy the checkpoint again")
        return files

    def check(self) -> None:
        """See that the model is what config.json and the weight files say, and nothing that the recipe would not know.

        Raises:
            EmocacheError: transformers would read other files, or the checkpoint counts on code of its own.
        """
        self.weight_files()
        refuse_own_code(self.folder, self.config, "AutoModel")
        if self.config.get("transformers_weights") is not None:
            raise EmocacheError(
                f"{self.folder}: config.json names its weights itself (transformers_weights); rename the file to"
                f" {_WEIGHTS} and take the entry out"
            )
        if (self.folder / _ADAPTER).exists():
            raise EmocacheError(
                f"{self.folder}: {_ADAPTER} tells of an adapter (PEFT), which would be run or not depending on what is"
                " installed; merge it into the model, or take it out of the folder"
            )

    def weights_sha256(self) -> str:
        """sha256 over the bytes of the weight files."""
        return files_sha256(self.weight_files())

    def config_sha256(self, others: Iterable[str]) -> str:
        """sha256 over config.json and those of the `others` that exist, less paths and library versions."""
        parts = [["config.json", _hash_settings(self.config)]]
        for name in sorted(others):
            file = self.folder / name
            if name == _GENERATION and file.is_file():
                parts.append([name, _hash_settings(read_json(file) or {})])
            elif file.is_file():
                parts.append([name, hashlib.sha256(file.read_bytes()).hexdigest()])
        return hashlib.sha256(canonical_json(parts)).hexdigest()

    def identity(self) -> dict[str, str]:
        """The part of a recipe that identifies the checkpoint.

        What a feature extractor in processor_config.json says stands in the recipe's pre-processing, not here: else
        streams from the time when that file was not read would not be found again where it says what was done anyway.
        """
        others = _TOKENIZER_FILES if self.family == "text" else ("preprocessor_config.json",)
        return {"weights_sha256": self.weights_sha256(), "config_sha256": self.config_sha256(others)}


def find(name: str, checkpoints: Path | None, offline: bool) -> tuple[str, str, Checkpoint]:
    """Find the checkpoint of an encoder: below `checkpoints`, then as a path, then on the hub.

    Args:
        name: a name of the registry, a folder below `checkpoints`, or a path; `-cls` after a text model's.
        checkpoints: folder with one folder per name, or None.
        offline: take from the hub's local cache only.

    Returns:
        (the encoder's name in stream names, its family, the checkpoint).

    Raises:
        EmocacheError: nothing of that name, or it cannot be used; says what to do.
    """
    if checkpoints is not None and not checkpoints.is_dir():
        raise EmocacheError(f"--checkpoints {checkpoints}: there is no such folder")
    if _folder(name, checkpoints) is None:
        for variant in VARIANTS:
            base = variant.base(name)
            if base is not None and (base in REGISTRY or _folder(base, checkpoints) is not None):
                short, found = _find(base, checkpoints, offline)
                if found.family != variant.of:
                    raise EmocacheError(
                        f"encoder {name!r}: {variant.prefix}...{variant.suffix} takes a {variant.of} checkpoint, not"
                        f" {found.model_type}"
                    )
                return f"{variant.prefix}{short}{variant.suffix}", variant.family, found
    short, found = _find(name, checkpoints, offline)
    return short, found.family, found


def find_file(name: str, suffix: str, checkpoints: Path | None) -> Path:
    """The one weights file of an encoder: `DIR/<name><suffix>`, or the only one with the suffix in `DIR/<name>`.

    Raises:
        EmocacheError: there is none, or there are several.
    """
    if checkpoints is None:
        raise EmocacheError(
            f"encoder {name!r} needs a weights file: give its folder with --checkpoints DIR, and the file as"
            f" DIR/{name}{suffix} (docs/encoders.md says where it comes from)"
        )
    if not checkpoints.is_dir():
        raise EmocacheError(f"--checkpoints {checkpoints}: there is no such folder")
    alone = checkpoints / f"{name}{suffix}"
    inside = sorted((checkpoints / name).glob(f"*{suffix}"))
    if alone.is_file() or len(inside) == 1:
        return alone if alone.is_file() else inside[0]
    pickles = sorted(p.name for p in (*checkpoints.glob("*"), *(checkpoints / name).glob("*")) if p.suffix in _PICKLED)
    found = f"{len(inside)} files in {checkpoints / name}" if inside else "none"
    if pickles and not inside:
        found = f"{pickles[0]}, a pickle, which is never loaded (docs/encoders.md shows how to convert it)"
    raise EmocacheError(
        f"encoder {name!r}: expected one weights file, {alone} or {checkpoints / name}/*{suffix}; found {found}"
    )


def _find(name: str, checkpoints: Path | None, offline: bool) -> tuple[str, Checkpoint]:
    folder = _folder(name, checkpoints)
    if folder is not None:
        return folder.name, read(folder)
    entry = REGISTRY.get(name)
    if entry is None or entry.hub is None:
        raise EmocacheError(_unknown(name, checkpoints))
    return name, read(_download(name, entry, offline))


def read(folder: Path) -> Checkpoint:
    """Open a checkpoint folder; its weights are not touched.

    Raises:
        EmocacheError: there is no readable config.json.
    """
    config = read_json(folder / "config.json")
    if config is None:
        raise EmocacheError(f"{folder} holds no config.json; a checkpoint is what save_pretrained writes")
    return Checkpoint(folder, config)


def read_json(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is no file.

    Raises:
        EmocacheError: it is not a JSON object.
    """
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EmocacheError(f"{file} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise EmocacheError(f"{file}: expected a JSON object, found {type(value).__name__}")
    return value


def _folder(name: str, checkpoints: Path | None) -> Path | None:
    if not name:
        return None
    plain = name == Path(name).name and name not in (".", "..")
    if plain and checkpoints is not None and (checkpoints / name).is_dir():
        return checkpoints / name
    path = Path(name).expanduser()
    if (path / "config.json").is_file() or (not plain and path.is_dir()):
        return path.resolve()
    return None


def _unknown(name: str, checkpoints: Path | None) -> str:
    names = set(REGISTRY)
    if checkpoints is not None:
        names |= {folder.name for folder in checkpoints.iterdir() if folder.is_dir()}
    close = difflib.get_close_matches(name, sorted(names), 4, 0.5)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    return (
        f"unknown encoder {name!r}: {hint}`emocache encoders` lists all names;"
        " for a checkpoint of your own give its path, or its folder's name and --checkpoints DIR"
    )


def _download(name: str, entry: EncoderEntry, offline: bool) -> Path:
    local = f"a checkpoint folder as DIR/{name} with --checkpoints DIR"
    if entry.pickled:
        where = f"{entry.hub} at {entry.revision[:12]} holds" if entry.revision else f"{entry.hub} is known to hold"
        raise EmocacheError(
            f"encoder {name!r}: {where} pickled weights only, which are never loaded;"
            f" give {local} (docs/encoders.md shows how to make one)"
        )
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            str(entry.hub), revision=str(entry.revision), allow_patterns=_DOWNLOADED, local_files_only=offline
        )
    except Exception as error:  # the hub client raises errors of whichever HTTP library it was built on
        where = "is not in the local hub cache" if offline else f"cannot be fetched ({type(error).__name__})"
        remedy = "run once without --offline" if offline else "check the network"
        raise EmocacheError(
            f"encoder {name!r}: {entry.hub} at {str(entry.revision)[:12]} {where}; {remedy}, or give {local}"
        ) from error
    return Path(folder)


def refuse_own_code(folder: Path, settings: Mapping[str, Any], part: str) -> None:
    """Refuse a checkpoint that names Python code of its own for a part.

    transformers would run its own class of that name instead, which may give other numbers.

    Args:
        folder: the checkpoint's.
        settings: of the part.
        part: as `auto_map` calls it, such as "AutoModel".

    Raises:
        EmocacheError: it does.
    """
    named = settings.get("auto_map")
    if named and (not isinstance(named, dict) or part in named):
        raise EmocacheError(
            f"{folder}: auto_map names code of the checkpoint's own for {part}, which is never run; if the class of"
            " transformers gives the same numbers, take auto_map out of the settings"
        )


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _hash_settings(settings: dict[str, Any]) -> str:
    lasting = {k: v for k, v in settings.items() if k not in _VOLATILE}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def file_sha256(file: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    return files_sha256([file])


def files_sha256(files: Sequence[Path]) -> str:
    """sha256 (hex) over the bytes of files, one after the other; remembered as long as they do not change."""
    stats = [(str(file.resolve()), file.stat()) for file in files]
    return _hash_files(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@lru_cache(maxsize=64)
def _hash_files(files: tuple[tuple[str, int, int], ...]) -> str:
    # Size and time are there for the cache's key: a file that was replaced is hashed again.
    digest = hashlib.sha256()
    for path, _size, _mtime in files:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
