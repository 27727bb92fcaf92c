"""What every test may rely on: no hub, no weights of the user, and a finder for the real data beside the checkout."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two machines of one CPU each; their workers find this package and the tests'."""
    pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    root = str(Path(__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        machine: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
        both = Cluster(initialize_head=True, head_node_args=machine)
        both.add_node(**machine)
        patch.setenv("RAY_ADDRESS", both.address)
        yield both
        both.shutdown()
