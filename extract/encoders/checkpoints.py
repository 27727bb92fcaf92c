"""A checkpoint folder: its config and weight files, the hashes that identify it, and what is refused."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache import EmocacheError
from ...cache.recipe import canonical_json
from ..weights.pickles import SUFFIXES, converted, weights_sha256
from .families import FAMILY_OF_MODEL_TYPE

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "sentencepiece.bpe.model", "spm.model",
)  # fmt: skip
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLE = "pytorch_model.bin"
_PICKLE_INDEX = "pytorch_model.bin.index.json"
_GENERATION = "generation_config.json"
_ADAPTER = "adapter_config.json"
SETTINGS = (
    "config.json", "preprocessor_config.json", "processor_config.json", _GENERATION, *_TOKENIZER_FILES
)  # fmt: skip
"""The files of a checkpoint that are read beside its weights."""
WEIGHTS = ((_WEIGHTS,), (_INDEX, "model-*.safetensors"), (_PICKLE,), (_PICKLE_INDEX, "pytorch_model-*.bin"))
"""Patterns of the files that hold weights: the first that a repository has are fetched, and no others."""

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
        family = FAMILY_OF_MODEL_TYPE.get(self.model_type) or self._other_family()
        if family is None:
            known = ", ".join(sorted(FAMILY_OF_MODEL_TYPE))
            raise EmocacheError(
                f"{self.folder}: config.json says model_type {self.model_type!r}, which no encoder here can run;"
                f" known are {known}, and models of transformers with a feature extractor of sound or a tokenizer"
            )
        return family

    def _other_family(self) -> str | None:
        """Tell how a model that transformers knows, and we do not, is run: on sound, or on text; None: not at all."""
        from transformers import CONFIG_MAPPING

        if self.model_type not in CONFIG_MAPPING:
            return None
        alone = read_json(self.folder / "preprocessor_config.json") or {}
        nested = (read_json(self.folder / "processor_config.json") or {}).get("feature_extractor")
        if "sampling_rate" in alone or (isinstance(nested, dict) and "sampling_rate" in nested):
            return "any-audio"
        return "any-text" if any((self.folder / name).is_file() for name in _TOKENIZER_FILES) else None

    def weight_files(self) -> list[Path]:
        """List the weight files.

        Returns:
            The safetensors files: one, or those that the index names, by name.

        Raises:
            EmocacheError: there are none, one that the index names is missing, or the index is not one.
        """
        files = _model_files(self.folder, _WEIGHTS, _INDEX)
        if not files:
            found = ", ".join(sorted(p.name for p in self.folder.glob("*") if p.suffix in SUFFIXES)) or "no weights"
            raise EmocacheError(f"{self.folder}: expected {_WEIGHTS} or {_PICKLE}, found {found}")
        return files

    def check(self) -> None:
        """Check that the model is made of config.json and the weight files alone, which the recipe's hashes cover.

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
        """Hash the bytes of the weight files, or of the pickles that they were converted from: sha256, hex."""
        return weights_sha256(self.weight_files())

    def config_sha256(self, others: Iterable[str]) -> str:
        """Hash config.json and those of the `others` that exist, less paths and library versions: sha256, hex."""
        parts = [["config.json", _hash_settings(self.config)]]
        for name in sorted(others):
            file = self.folder / name
            # Decoding settings carry a library version, which is left out; tokenizer files count byte by byte.
            if name == _GENERATION and file.is_file():
                parts.append([name, _hash_settings(read_json(file) or {})])
            elif file.is_file():
                parts.append([name, hashlib.sha256(file.read_bytes()).hexdigest()])
        return hashlib.sha256(canonical_json(parts)).hexdigest()

    def identity(self) -> dict[str, str]:
        """Return the part of a recipe that identifies the checkpoint.

        A feature extractor in processor_config.json stands in the recipe's pre-processing, by what it says, and its
        bytes are left out here. Streams stored before that file was read are so found again, where it says what was
        done anyway.
        """
        # Sound models may have a tokenizer too, for their recogniser; no frame depends on it.
        others = _TOKENIZER_FILES if self.family in ("text", "any-text") else ("preprocessor_config.json",)
        return {"weights_sha256": self.weights_sha256(), "config_sha256": self.config_sha256(others)}


def read(folder: Path) -> Checkpoint:
    """Open a checkpoint folder.

    Args:
        folder: holds config.json, and the weights.

    Returns:
        The checkpoint. Of one that has pickled weights only, it is a copy with the same weights as safetensors, which
        is made once; else the weights are not touched yet.

    Raises:
        EmocacheError: there is no readable config.json, or see `pickles.converted`.
    """
    config = read_json(folder / "config.json")
    if config is None:
        raise EmocacheError(f"{folder} holds no config.json; a checkpoint is what save_pretrained writes")
    if not (folder / _WEIGHTS).exists() and not (folder / _INDEX).exists():
        pickles = _model_files(folder, _PICKLE, _PICKLE_INDEX)
        if pickles:
            folder = converted(pickles, [folder / name for name in SETTINGS if (folder / name).is_file()])
    return Checkpoint(folder, config)


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds all files of a model's weights, as safetensors or as pickles."""
    try:
        return bool(_model_files(folder, _WEIGHTS, _INDEX) or _model_files(folder, _PICKLE, _PICKLE_INDEX))
    except EmocacheError:
        return False


def _model_files(folder: Path, single: str, index: str) -> list[Path]:
    """List the one file of a model's weights, or those that an index names, by name; none where there is neither."""
    # The one file comes before an index, as in transformers: these are the bytes that are run.
    if (folder / single).is_file():
        return [folder / single]
    found = read_json(folder / index)
    if found is None:
        return []
    names = found.get("weight_map")
    names = list(names.values()) if isinstance(names, dict) else []
    # Plain names only: a path could lead out of the folder.
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise EmocacheError(f"{folder / index}: weight_map does not name files beside it; copy the checkpoint again")
    files = [folder / name for name in sorted(set(names))]
    for file in files:
        if not file.is_file():
            raise EmocacheError(f"{file} is missing, though {index} names it; copy the checkpoint again")
    return files


def read_json(file: Path) -> dict[str, Any] | None:
    """Read the JSON object in a file.

    Args:
        file: need not be there.

    Returns:
        The object; None where there is no file.

    Raises:
        EmocacheError: the file holds no JSON object.
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


def refuse_own_code(folder: Path, settings: Mapping[str, Any], part: str) -> None:
    """Refuse a checkpoint that names Python code of its own for a part.

    transformers would run its own class of that name instead, which may give other numbers.

    Args:
        folder: the checkpoint's.
        settings: the part's, as its JSON file holds them.
        part: as `auto_map` calls it, such as "AutoModel".

    Raises:
        EmocacheError: `auto_map` names code for the part.
    """
    named = settings.get("auto_map")
    if named and (not isinstance(named, dict) or part in named):
        raise EmocacheError(
            f"{folder}: auto_map names code of the checkpoint's own for {part}, which is never run; if the class of"
            " transformers gives the same numbers, take auto_map out of the settings"
        )


def first_line(error: BaseException) -> str:
    """Return the first line an error says, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _hash_settings(settings: dict[str, Any]) -> str:
    lasting = {k: v for k, v in settings.items() if k not in _VOLATILE}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()
