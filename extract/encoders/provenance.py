"""The origin of an encoder's weights: one line that is stored beside its streams, and read with their runs."""

from pathlib import Path

from ...cache import EmocacheError
from ...cache.outside import is_outside
from ..weights import download, hub
from .fetching import addresses_of
from .lookup import Origins, checkpoint_folder, repository_of, split_variant, weights_file
from .registry import NO_FILE, REGISTRY


def pinned(name: str, origins: Origins | None = None) -> str:
    """Return the origin that a name stands for.

    Args:
        name: of an encoder, or `org/name[@revision]`.
        origins: more names that stand for repositories.

    Returns:
        `org/name@revision`, or `org/name` where no revision is known; the first address of a single file; "random"
        for weights that are drawn here; "" for encoders without weights, and those whose weights come by pip.

    Raises:
        EmocacheError: the name stands for nothing.
    """
    entry = REGISTRY.get(name)
    if entry is not None and entry.file == NO_FILE:
        return "random"
    if entry is not None and entry.hub is None:
        return entry.addresses[0] if entry.addresses else ""
    source = repository_of(split_variant(name, None, origins)[1], origins)
    if source is None:
        raise EmocacheError(f"encoder {name!r} stands for no weights that are known")
    return "@".join(part for part in source if part)


def origin(name: str, checkpoints: Path | None = None, origins: Origins | None = None) -> str:
    """Return where the weights that a name stands for on this machine are from, once they are loaded.

    Args:
        name: as `--encoder` takes it.
        checkpoints: the folder given with `--checkpoints`.
        origins: more names that stand for repositories.

    Returns:
        As `pinned`, with the commit that was loaded; "folder NAME" or "file NAME" of a copy of the user's own, which
        nobody can tell where it is from.
    """
    if is_outside(name):
        return name
    entry = REGISTRY.get(name)
    if entry is not None and entry.file:
        file = weights_file(name, entry.file, checkpoints)
        address = "" if file is None else download.origin_of(file)
        return pinned(name) if address in addresses_of(entry) else f"file {'' if file is None else file.name}".rstrip()
    if entry is not None and entry.hub is None:
        return pinned(name)
    base = split_variant(name, checkpoints, origins)[1]
    folder = checkpoint_folder(base, checkpoints)
    source = repository_of(base, origins)
    if folder is not None or source is None:
        return f"folder {folder.name if folder is not None else base}"
    return "@".join(part for part in (source[0], hub.known_commit(*source)) if part)
