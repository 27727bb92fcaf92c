"""The rules of the house: who imports whom, what is light, what is documented, what is packaged."""

import ast
import doctest
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("cache", "extract", "train", "evaluate")
MODULES = sorted(path for stage in STAGES for path in (ROOT / stage).rglob("*.py"))


def dotted(path: Path) -> str:
    """The module's name."""
    parts = ("emocache", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, by its full name."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


ROOMS = {dotted(path): path.parent for path in MODULES if path.name == "__init__.py"}
"""{package: its folder}, of every folder of the stages that holds modules."""
REGISTRIES = ("extract/corpora", "extract/encoders", "train/heads")
"""Folders with a module for each kind of thing, of which there may be many."""


def room_of(name: str) -> str:
    """The innermost room that a module is in, or is; "" if it is not ours."""
    while name and name not in ROOMS:
        name = name.rpartition(".")[0]
    return name


def short(room: str) -> str:
    """A room as the documentation writes it, `train/heads/`."""
    return room.removeprefix("emocache.").replace(".", "/") + "/"


def used_by(room: str) -> set[str]:
    """The other rooms that the modules of a room import."""
    files = (path for path in MODULES if path.parent == ROOMS[room])
    return {room_of(name) for path in files for name in imports(path)} - {"", room}


def imported_by(stage: str) -> set[str]:
    """The first two parts of what a stage imports: `emocache.cache`, `torch.nn`..."""
    files = (path for path in MODULES if path.relative_to(ROOT).parts[0] == stage)
    return {".".join(name.split(".")[:2]) for path in files for name in imports(path)}


@pytest.mark.parametrize("stage", STAGES)
def test_data_flows_one_way(stage: str) -> None:
    beyond = {other for room in ROOMS if room.split(".")[1] == stage for other in used_by(room)}
    others = {short(room) for room in beyond if room.split(".")[1] != stage}
    allowed = {"cache": set(), "evaluate": {"cache/", "cache/frames/", "train/records/"}}
    assert others <= allowed.get(stage, {"cache/", "cache/frames/"})


ORDER = {
    "extract": ("media", "corpora", "weights", "encoders", "goals", "pipeline"),
    "train": ("records", "heads", "config", "data", "protocols", "inputs", "fit", "watch", "stored", "run", "apply"),
    "evaluate": ("scoring", "output", "papers", "page"),
}
"""The rooms of a stage in the order in which data flows: one imports those before it only."""


@pytest.mark.parametrize("stage", ORDER)
def test_a_room_imports_earlier_ones_only(stage: str) -> None:
    assert {path.parent.name for path in (ROOT / stage).glob("*/__init__.py")} == set(ORDER[stage])
    for number, name in enumerate(ORDER[stage]):
        rooms = [room for room in ROOMS if short(room).startswith(f"{stage}/{name}/")]
        used = {
            other.split(".")[2] for room in rooms for other in used_by(room) if other.startswith(f"emocache.{stage}.")
        }
        assert used <= set(ORDER[stage][: number + 1]), name


def test_the_documentation_lists_the_rooms() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `") and line.count("|") == 4
    ]
    told = {cells[0].strip("`"): cells[2] for cells in rows if cells[0].endswith("/`")}
    assert set(told) == {short(room) for room in ROOMS}
    for room in ROOMS:
        named = {name.strip("` ") for name in told[short(room)].split(",")} - {"nothing of ours"}
        assert named == {short(other) for other in used_by(room)}, short(room)


def test_rooms_and_modules_are_small() -> None:
    for folder in ROOMS.values():
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        name = folder.relative_to(ROOT).as_posix()
        assert name.startswith("cache") or name in REGISTRIES or len(modules) <= 12, name
    long = {dotted(path): n for path in MODULES if (n := len(path.read_text(encoding="utf-8").splitlines())) > 280}
    assert not long


def test_no_module_name_means_two_things() -> None:
    """Names of kinds (a corpus, a head and a report are all of `emotion_share`) and of each stage's `cli` are one."""
    seen: dict[str, list[str]] = {}
    for path in MODULES:
        if path.stem not in ("__init__", "cli", "emotion_share"):
            seen.setdefault(path.stem, []).append(dotted(path))
    assert not {name: those for name, those in seen.items() if len(those) > 1}


def test_only_extract_and_train_know_torch() -> None:
    """But for `cache/device.py`, which tells both of the device, and imports it where it is used."""
    for stage in ("cache", "evaluate"):
        known = {"torch"} if stage == "cache" else set()
        roots = {name.split(".")[0] for name in imported_by(stage)}
        assert roots & {"torch", "transformers", "av", "soundfile", "soxr"} == known, stage
    own = [path.name for path in (ROOT / "cache").rglob("*.py") if "import torch" in path.read_text(encoding="utf-8")]
    assert own == ["device.py"]
    assert "transformers" not in {name.split(".")[0] for name in imported_by("train")}


LIGHT = ["emocache.cache", *(f"emocache.{stage}{part}" for stage in STAGES[1:] for part in ("", ".cli"))]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_stage_is_light(module: str) -> None:
    heavy = ("torch", "transformers", "pandas", "sklearn", "matplotlib")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_packages_are_the_folders() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {dotted(path) for path in MODULES if path.name == "__init__.py"}
    assert sorted(declared) == sorted({"emocache", *folders})
    bare = {path.parent for path in MODULES if not (path.parent / "__init__.py").exists()}
    assert not bare, "folders with modules but no __init__.py"


def is_declared_only(member: ast.stmt) -> bool:
    """A property of a Protocol, `def name(self) -> str: ...`; the class's docstring lists it as an attribute."""
    if not isinstance(member, ast.FunctionDef):
        return False
    decorators = [ast.unparse(decorator) for decorator in member.decorator_list]
    return decorators == ["property"] and ast.unparse(member.body[0]) == "..."


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_what_is_public_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        members = [node, *node.body] if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for member in members:
            if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not (member.name.startswith("_") or ast.get_docstring(member) or is_declared_only(member)):
                bare.append(member.name)
    assert not bare


@pytest.mark.parametrize("path", [p for p in MODULES if ">>>" in p.read_text(encoding="utf-8")], ids=dotted)
def test_examples_are_true(path: Path) -> None:
    tested = doctest.testmod(importlib.import_module(dotted(path)))
    assert tested.attempted and not tested.failed


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_parquet_is_read_in_one_place_and_without_threads(path: Path) -> None:
    """`cache.parquet` says why: what a thread of Arrow lets go of while Python ends aborts the process."""
    if dotted(path) == "emocache.cache.parquet":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    of_parquet = {name for name in used if name.startswith(("pq.", "pyarrow.parquet.", "pa.parquet."))}
    assert of_parquet <= {"pq.write_table", "pq.ParquetWriter"}, "read it with cache.parquet.read"
    assert not used & {"pc.field", "pa.dataset", "pa.Table.group_by"}, "an expression is evaluated in threads"
    assert not {"pyarrow.dataset", "pyarrow.acero"} & set(imports(path))
    assert not any(name.startswith("pyarrow.parquet.") for name in imports(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "csv.read_csv":
            assert "csv.ReadOptions(use_threads=False)" in ast.unparse(tree)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_docstrings_begin_with_what_is_done(path: Path) -> None:
    """Not with a question: `Return the ...`, `Tell whether ...`."""
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, documented)]
    firsts = [(ast.get_docstring(node) or "").split(" ")[0] for node in nodes]
    assert not {"What", "Whether", "How", "Where", "Which"} & set(firsts)
