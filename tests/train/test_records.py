"""The contract between training and evaluation is light: nobody needs torch to read a run."""

import subprocess
import sys
from pathlib import Path

from emocache.train import records

MODULES = sorted(path.stem for path in Path(next(iter(records.__path__))).glob("[a-z]*.py"))


def test_no_module_of_the_contract_loads_torch() -> None:
    names = [f"emocache.train.records.{name}" for name in MODULES]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert len(names) >= 4 and (done.stdout, done.stderr) == ("False\n", "")
