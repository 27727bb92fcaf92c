"""A wheel that is installed elsewhere is whole."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("cache", "extract", "train", "evaluate")
PARTS = (*STAGES, "__init__.py", "cli.py", "stopping.py", "py.typed", "pyproject.toml", "README.md", "LICENSE")
IMPORT = """
import importlib, pathlib, sys
root = pathlib.Path(importlib.import_module("emocache").__file__).parent
for name in sys.argv[1:]:
    importlib.import_module(name)
print(root)
"""


@pytest.mark.slow
def test_a_wheel_holds_every_sub_package(tmp_path: Path) -> None:
    source = tmp_path / "source"  # without build/, which may hold modules of former times
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(ROOT / part, source / part)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, source], check=True, capture_output=True
    )
    (wheel,) = wheels.glob("emocache-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True)

    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", IMPORT, *packages]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stderr, done.stdout.strip()) == ("", str(site / "emocache"))
    own = {
        path.relative_to(ROOT)
        for stage in STAGES
        for path in (ROOT / stage).rglob("*")
        if path.suffix in (".py", ".toml", ".csv")
    }
    installed = {path.relative_to(site / "emocache") for path in (site / "emocache").rglob("*") if path.is_file()}
    assert own <= installed
