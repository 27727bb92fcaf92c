"""From an encoder's name to its checkpoint: a folder below `--checkpoints`, a path, or a repository on the hub."""

from pathlib import Path

from ...cache import EmocacheError
from ...cache.hints import alike
from .checkpoints import FILES, Checkpoint, read
from .registry import REGISTRY, VARIANTS, EncoderEntry

_PICKLED = frozenset((".pt", ".pth", ".bin"))


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
    # A folder of that very name comes first: one called "my-model-10s" is not the 10 s variant of "my-model".
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
    """Find the one weights file of an encoder.

    Args:
        name: the encoder's, in the registry.
        suffix: of the file, such as ".h5".
        checkpoints: the folder DIR given with `--checkpoints`, or None.

    Returns:
        `DIR/<name><suffix>`, or the only file with the suffix in `DIR/<name>`.

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


def _folder(name: str, checkpoints: Path | None) -> Path | None:
    if not name:
        return None
    # Without config.json a bare word is the name of something else, not of whatever folder of that name lies about.
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
    close = alike(name, names, count=4, likeness=0.5)
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
            str(entry.hub), revision=str(entry.revision), allow_patterns=FILES, local_files_only=offline
        )
    except Exception as error:  # the hub client raises errors of whichever HTTP library it was built on
        where = "is not in the local hub cache" if offline else f"cannot be fetched ({type(error).__name__})"
        remedy = "run once without --offline" if offline else "check the network"
        raise EmocacheError(
            f"encoder {name!r}: {entry.hub} at {str(entry.revision)[:12]} {where}; {remedy}, or give {local}"
        ) from error
    return Path(folder)
