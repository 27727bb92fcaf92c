"""All that an encoder needs on this machine: what is here, what is missing, and how to mend it. Asked by everyone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ...cache import EmocacheError
from ...cache.outside import is_outside
from ..weights import hub
from ..weights.download import origin_of
from ..weights.pickles import CONVERTED, SUFFIXES, converted
from .checkpoints import has_weights, read
from .families import implementation
from .fetching import addresses_of, fetch_checkpoint, fetch_weights, here
from .inference import Runtime
from .lookup import checkpoint_folder, repository_of, split_variant, unknown, weights_file
from .registry import NO_FILE, REGISTRY, EncoderEntry

_NOTHING = "no weights"


@dataclass(frozen=True)
class Need:
    """The needs of one encoder.

    Attributes:
        name: of the encoder, as it was asked for.
        weights: the name that its weights go by: that of the checkpoint which a variant is of.
        source: `org/name@commit`, an address, a folder; or that there is nothing to get.
        licence: of the weights; "" where nobody knows.
        where: the weights on this machine; None where they are not here, or where there is nothing to get.
        size: bytes of `where`.
        package: of Python, that is not installed; "" where all are.
        extra: of emocache that brings it.
        lacks_weights: they are not here.
    """

    name: str
    weights: str
    source: str
    licence: str = ""
    where: Path | None = None
    size: int | None = None
    package: str = ""
    extra: str = ""
    lacks_weights: bool = False

    @property
    def missing(self) -> str:
        """The things that are missing; "" where nothing is."""
        return " and ".join(filter(None, (self.package, "weights" if self.lacks_weights else "")))

    @property
    def remedies(self) -> list[str]:
        """The commands that bring what is missing."""
        install = [f"pip install 'emocache[{self.extra}]'"] if self.package else []
        return install + ([f"emocache checkpoints {self.weights} --fetch"] if self.lacks_weights else [])


def need_of(name: str, checkpoints: Path | None = None, origins: Mapping[str, str] | None = None) -> Need:
    """Find out what an encoder needs; nothing is fetched, opened or asked for.

    Args:
        name: as `encoders.load` takes it.
        checkpoints: as `encoders.load` takes it.
        origins: as `encoders.load` takes it.

    Returns:
        Where its weights are from and lie, and what is missing.

    Raises:
        EmocacheError: there is no such encoder.
    """
    if is_outside(name):
        return Need(name, name, "an encoder of yours")
    _, base = split_variant(name, checkpoints, origins)
    entry = REGISTRY.get(base)
    package, extra = _missing_package(entry)
    folder = checkpoint_folder(base, checkpoints)
    if folder is not None and (entry is None or entry.file is None):
        there = has_weights(folder)
        size = _bytes(folder) if there else None
        return Need(name, base, str(folder), "", folder, size, package, extra, not there)
    if entry is not None and entry.file is not None and entry.file != NO_FILE:
        file = weights_file(base, entry.file, checkpoints)
        source = (origin_of(file) or "a file of yours") if file is not None else addresses_of(entry)[0]
        size = None if file is None else file.stat().st_size
        return Need(name, base, source, entry.licence, file, size, package, extra, file is None)
    repository = repository_of(base, origins)
    if repository is not None:
        weights = (origins or {}).get(base, base)  # what can be typed without the experiment
        return _of_repository(name, weights, repository, package, extra)
    if entry is None:
        raise EmocacheError(unknown(base, checkpoints))
    return Need(name, base, _NOTHING, package=package, extra=extra)


def remedies(lacking: Sequence[Need]) -> list[str]:
    """Return the commands that bring what is missing: one for all packages, and one for all weights."""
    extras = list(dict.fromkeys(part for need in lacking if need.package for part in need.extra.split(",")))
    install = [f"pip install 'emocache[{','.join(extras)}]'"] if extras else []
    weights = [need.weights for need in lacking if need.lacks_weights]
    return install + ([f"emocache checkpoints {' '.join(weights)} --fetch"] if weights else [])


def _of_repository(name: str, base: str, source: tuple[str, str | None], package: str, extra: str) -> Need:
    repository, revision = source
    folder = here(repository, revision) if find_spec("huggingface_hub") else None
    told = f"{repository}@{(hub.known_commit(repository, revision) or revision or 'main')[:12]}"
    licence = hub.known_licence(repository, revision) or (REGISTRY[base].licence if base in REGISTRY else "")
    size = None if folder is None else _bytes(folder)
    return Need(name, base, told, licence, folder, size, package, extra, folder is None)


def _missing_package(entry: EncoderEntry | None) -> tuple[str, str]:
    """Return a package that is not installed and the extra that brings it; ("", "") where all are there."""
    if entry is not None and entry.hub is None and entry.file is None and entry.extra[0] == "extract":
        return "", ""  # a signal transform, which takes what reading sound takes
    extra, module = ("extract", "transformers") if entry is None else entry.extra
    for needed in ("transformers", module):
        if find_spec(needed) is None:
            return needed, extra
    return "", ""


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def fetch(need: Need, given: Path | None = None) -> Path:
    """Fetch the weights that an encoder lacks, and open them once, so that they are known to be right.

    Args:
        need: of the encoder.
        given: a copy of its weights file that the user has.

    Returns:
        Where they lie now.

    Raises:
        EmocacheError: in one line, what is in the way.
    """
    entry = REGISTRY.get(need.weights)
    if entry is not None and entry.file:
        return fetch_weights(need.weights, entry, partial(_load, need.weights, entry), given)
    source = repository_of(need.weights)
    if source is None or given is not None:
        raise EmocacheError(
            f"{need.name}: {need.source}; there is nothing to fetch" + (" from a file" if given else "")
        )
    return read(fetch_checkpoint(need.weights, *source, asked=True)).folder


def _load(name: str, entry: EncoderEntry, file: Path) -> None:
    """Load a weights file as its encoder does, which is the check of its structure."""
    opened = converted([file]) / CONVERTED if file.suffix in SUFFIXES else file
    implementation(entry.family)(name, opened, Runtime.create("cpu", "float32"))
