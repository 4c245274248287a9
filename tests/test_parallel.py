"""Real processes that train one model: the losses of one alone, and checkpoints that any number of them go on from."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from earthgpt.model.loading import load

# Batch statistics differ between processes, so the CNN is one with layer norms; text of few tokens keeps it quick.
RECIPE = """
output = "{output}"
steps = 6
batch_size = 8
image_size = 64
learning_rate = 2e-3
text_tokens = 96
precision = "float32"
save_every = 2
keep = 2
workers = 0
[model]
vocabulary = 512
[model.vit]
model_type = "dinov2"
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
patch_size = 16
image_size = 64
[model.cnn]
model_type = "convnext"
hidden_sizes = [16, 16, 32, 32]
depths = [1, 1, 1, 1]
[model.text]
model_type = "llama"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
max_position_embeddings = 512
[[sources]]
dataset = "synthetic"
split = "val"
tasks = ["scene_classification"]
"""
# Says that the parameters are divided: a run that is not sharded would give the same losses.
SHARDED = """
import sys
from earthgpt import cli, parallel
from torch.distributed.tensor import DTensor
shard = parallel.shard
def checked(model, ranks):
    shard(model, ranks)
    for name, parameter in model.named_parameters():
        whole = ranks.count == 1 or ("vision_encoder" in name and not parameter.requires_grad)
        assert isinstance(parameter, DTensor) != whole, name
from earthgpt import training
training.shard = checked
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the finished run of one process in ``1`` and of two in ``2``."""
    folder = tmp_path_factory.mktemp("runs")
    for count in (1, 2):
        assert train(folder / str(count), count).returncode == 0
    return folder


def start(output: Path, count: int, *overrides: str) -> subprocess.Popen:
    output.mkdir(exist_ok=True)
    toml, script = output / "recipe.toml", output / "script.py"
    toml.write_text(RECIPE.format(output=output))
    script.write_text(SHARDED)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    command = [sys.executable, *launcher, str(script), "train", str(toml), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def train(output: Path, count: int, *overrides: str) -> subprocess.CompletedProcess:
    process = start(output, count, *overrides)
    _, said = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, "", said)


def workers_of(launcher: subprocess.Popen) -> list[int]:
    """The processes that torchrun started; each leads a session of its own."""
    found = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_have_the_losses_and_the_model_of_one(runs):
    one, two = losses(runs / "1"), losses(runs / "2")
    assert len(one) == 6 and one[-1] < one[0]
    assert two == pytest.approx(one, rel=1e-4)
    single, both = (load(runs / name / "model")[0].state_dict() for name in ("1", "2"))
    assert list(single) == list(both)
    # Written in bfloat16: the last of its eight bits may be rounded another way.
    assert all(torch.allclose(single[name], both[name], rtol=2**-6, atol=1e-3) for name in single)


def test_parts_of_a_batch_one_after_the_other_give_the_same_losses(runs):
    found = train(runs / "parts", 1, "accumulate=4", "checkpointing=true")
    assert found.returncode == 0, found.stderr
    assert losses(runs / "parts") == pytest.approx(losses(runs / "1"), rel=1e-4)


@pytest.mark.parametrize(
    "stage",
    [
        ("bias_tuning=true", 'trainable=["language_model.*.alpha", "language_model.*.beta"]', "cache=true"),
        ("lora={rank = 4}", 'trainable=["language_model.*.lora_*"]', "precision=bfloat16"),
    ],
    ids=["bias tuning on kept features", "lora in bfloat16"],
)
def test_two_processes_train_a_part_of_a_model_as_one_does(runs, tmp_path, stage):
    options = [f"model={runs / '1' / 'model'}", "learning_rate=0.01", "clip=1.0", *stage]
    for count in (1, 2):
        found = train(tmp_path / str(count), count, *options)
        assert found.returncode == 0, found.stderr
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    trained = load(tmp_path / "2" / "model")[0].state_dict()
    moved = [value for name, value in trained.items() if name.endswith(("beta", "lora_B.default.weight"))]
    assert len(moved) == 14 and all(value.abs().max() > 0.01 for value in moved), "they began at zero"
    assert two == pytest.approx(one, rel=2e-3 if "bfloat16" not in stage[-1] else 2e-2)


def test_two_processes_validate_with_dense_heads(tmp_path):
    source = '{dataset = "synthetic", split = "val", tasks = ["object_detection", "scene_classification"]}'
    wanted = ("steps=2", "dense=1.0", "validate_every=2", "validation_questions=3", f"validation=[{source}]")
    done = train(tmp_path, 2, *wanted)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any("synthetic/scene_classification/accuracy_strict" in line for line in lines)


def test_the_latest_checkpoints_stay(runs):
    assert sorted(path.name for path in (runs / "2" / "checkpoints").iterdir()) == ["00000004", "00000006"]


@pytest.mark.parametrize("count", [1, 4])
def test_a_checkpoint_of_two_processes_is_gone_on_from_by_one_and_by_four(runs, tmp_path, count):
    killed = start(tmp_path / "run", 2)
    wait_for(tmp_path / "run" / "checkpoints" / "00000002")
    for number in (killed.pid, *workers_of(killed)):  # the launcher first, or it would say so
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    killed.communicate()
    found = train(tmp_path / "run", count)
    assert found.returncode == 0, found.stderr
    assert "Going on from step" in found.stderr
    assert losses(tmp_path / "run")[-1] == pytest.approx(losses(runs / "1")[-1], rel=1e-3)


def test_a_killed_process_ends_the_run_and_the_run_goes_on(tmp_path):
    run = start(tmp_path / "run", 2, "steps=60")
    wait_for(tmp_path / "run" / "checkpoints" / "00000002")
    os.kill(workers_of(run)[-1], signal.SIGKILL)
    run.communicate(timeout=120)
    assert run.returncode != 0
    assert not (tmp_path / "run" / "model").exists()
    found = train(tmp_path / "run", 2, "steps=60")
    assert found.returncode == 0, found.stderr
    assert "Going on from step" in found.stderr
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert set(steps) == set(range(1, 61)) and steps[-1] == 60


def test_a_run_that_is_told_to_stop_keeps_where_it_was(tmp_path):
    run = start(tmp_path / "run", 1, "steps=400", "save_every=1000")
    wait_for(tmp_path / "run" / "recipe.json")
    time.sleep(1.0)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in said and "Traceback" not in said
    (kept,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert f"Stopped after step {int(kept.name)} of 400" in said
    assert len(losses(tmp_path / "run")) == int(kept.name)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    found = train(tmp_path / "run", 1, "accumulate=3")
    assert found.returncode == 1
    assert "batch_size = 8 cannot be divided over 1 processes that take 3 part(s) each" in found.stderr


def wait_for(path: Path, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)
