"""What the doctor says is what the recipes do and the memory holds."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from earthgpt.cli import app
from earthgpt.config import load_recipe
from earthgpt.doctor import STAGES, cost, fits

GIB = 2**30


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_what_the_recipe_of_its_name_trains(stage, request):
    recipe = load_recipe(Path(request.config.rootpath) / "recipes" / f"{stage}.toml")
    told = STAGES[stage]
    assert told["trainable"] == recipe.trainable
    assert told.get("bias_tuning", False) == recipe.bias_tuning
    ours, lora = told.get("lora"), recipe.lora and recipe.lora.model_dump()
    assert ours == (lora and {key: lora[key] for key in ours})


def test_the_7b_model_fits_24_gb_with_bias_tuning_and_lora_but_not_whole():
    found = {fit.stage: fit for fit in fits("earthgpt-7b", 24 * GIB)}
    for stage in ("instruct", "lora"):
        recipe_takes = 32 // 4  # batch_size and accumulate of recipes/lora.toml
        assert found[stage].images >= recipe_takes and found[stage].checkpointing
        assert 13 * GIB < found[stage].needed < 16 * GIB
    assert found["full"].images == found["align"].images == 0
    # 7.27e9 weights, of which 6.77e9 are trained: 4 + 4 + 8 bytes each, and 2 for working copies.
    assert found["full"].needed == pytest.approx(6.77e9 * 18 + 0.5e9 * 2, rel=0.03)


def test_more_devices_hold_more():
    memory = cost("earthgpt-7b", "full", 224, checkpointing=True)
    assert memory.images(80 * GIB) == 0
    eight = memory.images(80 * GIB, processes=8)
    assert eight > 50
    assert memory.total(eight, 8) <= 80 * GIB < memory.total(eight + 1, 8)


def test_the_command_tells_hardware_libraries_and_what_fits():
    result = CliRunner().invoke(app, ["doctor", "--memory", "24", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["memory"] == 24 * GIB and found["rate"] > 1e9
    assert found["versions"]["torch"] and found["devices"][0]["memory"] > GIB
    assert {fit["model"] for fit in found["fits"]} == {"earthgpt-1b", "earthgpt-7b", "earthgpt-13b"}
