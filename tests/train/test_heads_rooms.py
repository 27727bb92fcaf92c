"""Heads know torch and pydantic, and of emocache its errors, hints and each other; layers do not know `Head`."""

import sys
from pathlib import Path

import pytest

from ..test_layout import dotted, imports

HEADS = Path(__file__).parents[2] / "train" / "heads"
MODULES = sorted(HEADS.rglob("*.py"))
# safetensors holds torch's weights; typing_extensions, which both bring, has the TypeVar with a default.
OUTSIDE = {"torch", "pydantic", "safetensors", "typing_extensions", *sys.stdlib_module_names}
INSIDE = ("emocache.train.heads", "emocache.train.records", "emocache.cache.EmocacheError", "emocache.cache.hints")


def is_inside(name: str, rooms: tuple[str, ...]) -> bool:
    """Tell whether a module, or a name in it, belongs to one of the rooms."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_heads_know_torch_and_pydantic_only(path: Path) -> None:
    named = set(imports(path)) - {"emocache.cache"}  # where the error is imported from; its names are told as well
    ours = {name for name in named if name.split(".")[0] == "emocache"}
    assert {name.split(".")[0] for name in named - ours} <= OUTSIDE
    assert not {name for name in ours if not is_inside(name, INSIDE)}


@pytest.mark.parametrize("path", sorted((HEADS / "layers").glob("*.py")), ids=dotted)
def test_layers_do_not_know_heads(path: Path) -> None:
    ours = {name for name in imports(path) if name.split(".")[0] == "emocache"}
    assert not {name for name in ours if not is_inside(name, ("emocache.train.heads.layers",))}
