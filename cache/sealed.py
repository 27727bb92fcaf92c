"""Small JSON documents that carry their own sha256, so that no flipped bit in them goes unnoticed."""

import hashlib
import json
from typing import Any

from .errors import EmocacheError
from .recipe import canonical_json


class DamagedError(EmocacheError):
    """Bytes in the cache are not those that were written."""


def seal(document: dict[str, Any], *, pretty: bool = False) -> bytes:
    """The document with its `sha256` (of its canonical JSON without that key), as JSON; indented if `pretty`."""
    sealed = {**document, "sha256": hashlib.sha256(canonical_json(document)).hexdigest()}
    if pretty:
        return json.dumps(sealed, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return canonical_json(sealed)


def unseal(data: bytes, what: str) -> dict[str, Any]:
    """The document that `seal` wrote.

    Raises:
        DamagedError: the bytes differ in any way from those `seal` gives for what they hold.
    """
    try:
        document = json.loads(data)
        document.pop("sha256")
        intact = data == seal(document, pretty=data.startswith(b"{\n"))
    except (ValueError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact:
        raise DamagedError(
            f"{what}: damaged, its checksum does not match; restore it from a copy, or delete it and extract again"
        )
    return document  # type: ignore[no-any-return]
