"""How long one waits for the first words: the help, the import, and the first answer of a command.

    python benchmarks/run.py startup

Each is a process of its own, started again and again; files are in the page cache. The rivals are limits that were set.
The floor of the import is Python without it, and that of the first answer is the import of torch and transformers'
base class of models, without which there is none, while no garbage is collected.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from guard import in_turn
from processes import output
from table import Row

LIMITS = {"import earthgpt": 0.1, "earthgpt --help": 0.3, "earthgpt ask": 4.0}


def rows(quick: bool = False) -> list[Row]:
    """A row for each limit; the same with ``quick``, for it is short."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)).save(image)
        python, ours = [sys.executable, "-c"], [sys.executable, "-m", "earthgpt"]
        commands = {
            "python": [*python, "pass"],
            "import earthgpt": [*python, "import earthgpt"],
            "earthgpt --help": [*ours, "--help"],
        }
        short = in_turn({name: lambda command=command: output(command) for name, command in commands.items()}, 5, 20)
        answers = {
            "transformers": [*python, "import gc; gc.disable(); import torch, transformers.modeling_utils"],
            "earthgpt ask": [*ours, "ask", str(image), "What is this?"],
        }
        long = in_turn({name: lambda command=command: output(command) for name, command in answers.items()}, 2, 20)
    if not long["earthgpt ask"].result.strip():
        raise ValueError("There was no answer.")
    taken = short | long
    floors = {"import earthgpt": "python", "earthgpt --help": "python", "earthgpt ask": "transformers"}
    return [
        Row("startup", name, "s", taken[name].seconds, limit, "limit", 1, taken[floors[name]].seconds, "",
            taken[name].samples)
        for name, limit in LIMITS.items()
    ]  # fmt: skip
