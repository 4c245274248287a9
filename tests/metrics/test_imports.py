"""The metrics need numpy and nothing else."""

import subprocess
import sys
from pathlib import Path

import earthgpt.metrics

FOLDER = Path(earthgpt.metrics.__file__).parent


def test_metrics_are_used_without_torch_or_any_other_library():
    names = sorted(f"earthgpt.metrics.{path.stem}" for path in FOLDER.glob("[a-z]*.py"))
    assert len(names) == 7
    code = f"""
import sys
before = set(sys.modules)
import {", ".join(names)}
from earthgpt.metrics import captions
captions.caption_scores(["a ship"], [["a ship"]], meteor=False).summary()
libraries = {{name.partition(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names
print(*sorted(libraries))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["earthgpt", "numpy"]
