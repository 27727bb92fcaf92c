"""From an encoder's name to its checkpoint: a folder below `--checkpoints`, a path, or a repository on the hub."""

from collections.abc import Mapping
from pathlib import Path

from ...cache import EmocacheError
from ...cache.hints import alike
from ..weights.download import check_recorded
from ..weights.home import home
from ..weights.hub import is_offline, parse_repository
from ..weights.pickles import CONVERTED, SUFFIXES, converted
from .checkpoints import Checkpoint, read
from .families import VARIANTS, Variant
from .fetching import fetch_checkpoint, here
from .registry import REGISTRY

Origins = Mapping[str, str]
"""{name of a checkpoint: org/name[@revision]}, what an experiment's `[encoders]` says."""


def find(
    name: str, checkpoints: Path | None, offline: bool, alias: str | None = None, origins: Origins | None = None
) -> tuple[str, str, Checkpoint]:
    """Find the checkpoint of an encoder: below `checkpoints`, then as a path, then on the hub.

    Args:
        name: a name of the registry, a folder below `checkpoints`, a path, or `org/name[@revision]` of the hub; or a
            variant of these.
        checkpoints: folder with one folder per name, or None.
        offline: take from the hub's local cache only.
        alias: the name in stream names, in place of the folder's or the repository's.
        origins: more names that stand for repositories.

    Returns:
        (the encoder's name in stream names, its family, the checkpoint).

    Raises:
        EmocacheError: nothing of that name, or it cannot be used; says what to do.
    """
    check_folder(checkpoints)
    variant, base = split_variant(name, checkpoints, origins)
    short, found = _find(base, checkpoints, offline, alias, origins)
    short = alias or short
    if variant is None:
        return short, found.family, found
    if found.family != variant.of:
        raise EmocacheError(
            f"encoder {name!r}: {variant.prefix}...{variant.suffix} takes a {variant.of} checkpoint, not"
            f" {found.model_type}"
        )
    return f"{variant.prefix}{short}{variant.suffix}", variant.family, found


def find_file(name: str, suffix: str, checkpoints: Path | None) -> Path:
    """Find the one weights file of an encoder.

    Args:
        name: the encoder's, in the registry.
        suffix: of the file, such as ".h5".
        checkpoints: the folder DIR given with `--checkpoints`, or None.

    Returns:
        `DIR/<name><suffix>`, or the only file with the suffix in `DIR/<name>`; then the same below the home. A pickle
        stands for the safetensors file that is made of it once.

    Raises:
        EmocacheError: there is none, or there are several, or it is not the one that was fetched.
    """
    check_folder(checkpoints)
    for folder in _shelves(checkpoints):
        found = _weights_below(folder, name, suffix)
        if len(found) > 1:
            raise EmocacheError(
                f"encoder {name!r}: expected one weights file in {folder / name}, found {len(found)}:"
                f" {', '.join(file.name for file in found[:3])}; keep one"
            )
        if found:
            check_recorded(found[0])
            pickled = found[0].suffix in SUFFIXES
            return converted(found) / CONVERTED if pickled else found[0]
    raise EmocacheError(
        f"encoder {name!r}: its weights file is not on this machine; run: emocache checkpoints {name} --fetch, or give"
        f" it as DIR/{name}{suffix} with --checkpoints DIR"
    )


def weights_file(name: str, suffix: str, checkpoints: Path | None) -> Path | None:
    """Return the weights file of an encoder as it lies on this machine, a pickle too; None where there is none."""
    for folder in _shelves(checkpoints):
        if found := _weights_below(folder, name, suffix):
            return found[0]
    return None


def checkpoint_folder(name: str, checkpoints: Path | None) -> Path | None:
    """Return the folder that a name stands for below `checkpoints` or the home, or as a path; None where none does."""
    if not name:
        return None
    # Without config.json a bare word is the name of something else, not of whatever folder of that name lies about.
    plain = name == Path(name).name and name not in (".", "..")
    if plain and checkpoints is not None and (checkpoints / name).is_dir():
        return checkpoints / name
    path = Path(name).expanduser()
    if (path / "config.json").is_file() or (not plain and path.is_dir()):
        return path.resolve()
    if plain and (home() / name / "config.json").is_file():
        return home() / name
    return None


def repository_of(name: str, origins: Origins | None = None) -> tuple[str, str | None] | None:
    """Return the repository and revision that a name stands for, in the table or as `org/name[@revision]`."""
    if origins is not None and name in origins:
        return parse_repository(origins[name])
    entry = REGISTRY.get(name)
    if entry is not None:
        return None if entry.hub is None else (entry.hub, entry.revision)
    return parse_repository(name)


def split_variant(name: str, checkpoints: Path | None, origins: Origins | None = None) -> tuple[Variant | None, str]:
    """Split a name into the variant and the name of the checkpoint that it is of; (None, name) where it is none."""
    # A folder of that very name comes first: one called "my-model-10s" is not the 10 s variant of "my-model".
    if checkpoint_folder(name, checkpoints) is None:
        for variant in VARIANTS:
            base = variant.base(name)
            known = base is not None and (
                base in REGISTRY
                or base in (origins or {})
                or checkpoint_folder(base, checkpoints) is not None
                or parse_repository(base)
            )
            if base is not None and known:
                return variant, base
    return None, name


def _find(
    name: str, checkpoints: Path | None, offline: bool, alias: str | None, origins: Origins | None
) -> tuple[str, Checkpoint]:
    folder = checkpoint_folder(name, checkpoints)
    if folder is not None:
        return folder.name, read(folder)
    source = repository_of(name, origins)
    if source is None:
        raise EmocacheError(unknown(name, checkpoints))
    repository, revision = source
    short = name if name in REGISTRY or name in (origins or {}) else repository.rpartition("/")[2]
    if (known := REGISTRY.get(short)) is not None and known.hub != repository and alias is None:
        raise EmocacheError(
            f"encoder {name!r}: its streams would be called {short!r}, as those of {known.hub or 'another encoder'};"
            " give them a name with --as NAME"
        )
    folder = here(repository, revision)
    if folder is None and (offline or is_offline()):
        raise EmocacheError(
            f"encoder {name!r}: {repository}{f' at {revision[:12]}' if revision else ''} is not on this machine; run"
            f" once without --offline (or HF_HUB_OFFLINE), or give a checkpoint folder as DIR/{short} with"
            " --checkpoints DIR"
        )
    if folder is None:
        try:
            folder = fetch_checkpoint(name, repository, revision, asked=False)
        except EmocacheError as error:
            raise EmocacheError(f"encoder {name!r}: {error}") from error
    return short, read(folder)


def check_folder(checkpoints: Path | None) -> None:
    """Refuse what `--checkpoints` gives and is no folder, with an EmocacheError."""
    if checkpoints is not None and not checkpoints.is_dir():
        found = "is a file" if checkpoints.exists() else "there is no such folder"
        raise EmocacheError(f"--checkpoints {checkpoints}: {found}; give the folder that holds the weights")


def _shelves(checkpoints: Path | None) -> list[Path]:
    return [folder for folder in (checkpoints, home()) if folder is not None]


def _weights_below(folder: Path, name: str, suffix: str) -> list[Path]:
    # Of a name that can be a pickle too, the safetensors file comes first: it is what an earlier version asked for.
    for kinds in ((suffix,), SUFFIXES if suffix == ".safetensors" else ()):
        for kind in kinds:
            if (folder / f"{name}{kind}").is_file():
                return [folder / f"{name}{kind}"]
        inside = sorted(file for kind in kinds for file in (folder / name).glob(f"[!.]*{kind}"))
        if inside:
            return inside
    return []


def unknown(name: str, checkpoints: Path | None) -> str:
    """Return the line that tells of a name that stands for nothing, with the nearest ones that do."""
    names = set(REGISTRY)
    if checkpoints is not None:
        names |= {folder.name for folder in checkpoints.iterdir() if folder.is_dir()}
    close = alike(name, names, count=4, likeness=0.5)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    return (
        f"unknown encoder {name!r}: {hint}`emocache encoders` lists all names;"
        " for another model give its repository on the hub, org/name[@revision], its folder's path, or the folder's"
        " name and --checkpoints DIR"
    )
