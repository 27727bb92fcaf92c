"""Small JSON documents that carry their format and their own sha256, so that no flipped bit in them goes unnoticed."""

import hashlib
import json
from typing import Any

from .errors import EmocacheError
from .recipe import canonical_json

FORMAT = 1
"""Of every document of the cache; one that a later version writes differently gets a higher number."""


class DamagedError(EmocacheError):
    """Bytes in the cache are not those that were written."""


def seal(document: dict[str, Any], *, pretty: bool = False) -> bytes:
    """The document with its `format` and the `sha256` of its canonical JSON, as JSON; indented if `pretty`."""
    return _seal({"format": FORMAT, **document}, pretty)


def unseal(data: bytes, what: str) -> dict[str, Any]:
    """Read the document that `seal` wrote.

    Args:
        data: what `seal` gave.
        what: what errors call it.

    Returns:
        the document, without its format and checksum.

    Raises:
        DamagedError: the bytes differ in any way from those `seal` gives for what they hold.
        EmocacheError: a newer version of this package has written them.
    """
    try:
        document = json.loads(data)
        document.pop("sha256")
        intact = data == _seal(document, pretty=data.startswith(b"{\n"))
        written = document.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise DamagedError(
            f"{what}: damaged, its checksum does not match; restore it from a copy, or delete it and extract again"
        )
    if written != FORMAT:
        raise EmocacheError(f"{what} has format {written}, this emocache reads format {FORMAT}; update emocache")
    return document  # type: ignore[no-any-return]


def _seal(document: dict[str, Any], pretty: bool) -> bytes:
    sealed = {**document, "sha256": hashlib.sha256(canonical_json(document)).hexdigest()}
    if pretty:
        return json.dumps(sealed, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return canonical_json(sealed)
