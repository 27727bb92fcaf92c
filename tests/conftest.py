"""What every test may rely on: no hub, no weights of the user, and a finder for the real data beside the checkout."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import emocache

os.environ["HF_HUB_OFFLINE"] = "1"
# Weights that the user of this machine keeps are none of a test's, and what a test converts is no user's.
os.environ["EMOCACHE_CHECKPOINTS"] = tempfile.mkdtemp(prefix="emocache-checkpoints-")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: more threads would only wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(emocache.__file__).resolve().parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Function from a path below ../shared to the path; skips the test on a machine without it."""

    def find(path: str) -> Path:
        if not (SHARED / path).exists():
            pytest.skip(f"../shared/{path} is not on this machine")
        return SHARED / path

    return find
