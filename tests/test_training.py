"""Training goes on exactly where it stopped, changes only what it may, and learns."""

import functools
import json

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from earthgpt import checkpoints, training
from earthgpt import mixture as mixtures
from earthgpt.config import NewModel, Recipe, Source, load_recipe
from earthgpt.datasets import synthetic
from earthgpt.generation import generate
from earthgpt.model.loading import load
from earthgpt.training import choose_trainable, schedule, train
from earthgpt.types import Conversation, EarthGPTError

PARTS = NewModel(
    vit={
        "model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16,
        "image_size": 64,
    },
    cnn={
        "model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 32],
        "depths": [1, 1, 1, 1],
    },
    text={
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
    },
    vocabulary=512,
)  # fmt: skip
STAGES = {
    "align": (
        False,
        ("mm_projector.*", "image_start", "image_end", "language_model.*.self_attn.*", "language_model.*norm*.weight"),
    ),
    "instruct": (True, ("language_model.*.alpha", "language_model.*.beta")),
}


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    """Nine synthetic scenes in the split "val", each drawn once."""
    monkeypatch.setitem(synthetic.SPLITS, "val", range(9))
    monkeypatch.setattr(mixtures, "read_pixels", functools.cache(mixtures.read_pixels))


def recipe(output, **changes) -> Recipe:
    usual = {
        "output": str(output),
        "model": PARTS,
        "sources": (Source(dataset="synthetic", split="val"),),
        "steps": 5,
        "batch_size": 3,
        "learning_rate": 2e-3,
        "text_tokens": 96,
        "dialogue": 0.5,
        "augment": True,
        "precision": "float32",
        "save_every": 2,
        "workers": 0,
    }
    return Recipe(**{**usual, **changes})


class Killed(BaseException):
    """Stands for a process that is gone."""


def kill_at(monkeypatch, steps):
    """Training stops for good right after the checkpoint of that many steps is written."""
    save = training.save

    def save_and_die(folder, step, *rest):
        save(folder, step, *rest)
        if step == steps:
            raise Killed

    monkeypatch.setattr(training, "save", save_and_die)


def state(folder):
    """The latest checkpoint in ``folder``: {"step", "model", "optimizer"}."""
    latest = sorted((folder / "checkpoints").iterdir())[-1]
    path = folder.parent / f"{folder.name}.pt"
    dcp_to_torch_save(latest, path)
    return torch.load(path, weights_only=False)


# --- going on ----------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_has_the_losses_and_weights_of_one_that_was_not_interrupted(tmp_path, monkeypatch):
    whole = train(recipe(tmp_path / "whole", steps=4))
    assert len(whole.losses) == 4
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(Killed):
            train(recipe(tmp_path / "broken", steps=4))
    assert not (tmp_path / "broken" / "model").exists()
    rest = train(recipe(tmp_path / "broken", steps=4))
    assert rest.losses == whole.losses[2:]
    one, other = (state(tmp_path / name)["model"] for name in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == list(enumerate(whole.losses))


def test_a_finished_run_is_not_trained_again_and_may_be_saved_more_often(tmp_path):
    train(recipe(tmp_path, steps=2))
    again = train(recipe(tmp_path, steps=2, save_every=1))
    assert again.losses == ()
    assert (again.folder / "config.json").is_file()


def test_a_folder_with_a_run_of_another_recipe_is_refused(tmp_path):
    train(recipe(tmp_path, steps=2))
    before = state(tmp_path)["model"]
    with pytest.raises(EarthGPTError, match=r"another recipe \(learning_rate, seed changed\)"):
        train(recipe(tmp_path, steps=2, seed=1, learning_rate=1e-3))
    after = state(tmp_path)["model"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(Killed):
            train(recipe(tmp_path, steps=4))

    def disk_is_full(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.dcp, "save", disk_is_full)
        with pytest.raises(OSError, match="No space"):
            train(recipe(tmp_path, steps=4))
    assert state(tmp_path)["step"] == 2


def test_the_trained_model_and_processor_can_be_loaded(tmp_path):
    trained = train(recipe(tmp_path, steps=2))
    model, processor = load(trained.folder)
    assert (processor.image_size, processor.tokens_per_image) == (64, model.config.tokens_per_image)
    assert model.config.image_token_id == processor.image_token_id
    weights = state(tmp_path)["model"]
    name = "mm_projector.linear.weight"
    assert torch.equal(model.state_dict()[name], weights[name].bfloat16().float())


# --- what is trained ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_changes_what_its_patterns_name_and_not_one_bit_of_the_rest(stage, tmp_path, model_folder):
    bias_tuning, patterns = STAGES[stage]
    before, _ = load(model_folder)
    if bias_tuning:
        before.add_bias_tuning()
    names = set(choose_trainable(before, patterns))
    train(recipe(tmp_path, model=str(model_folder), bias_tuning=bias_tuning, trainable=patterns, steps=2, batch_size=2))
    old, new = before.state_dict(), state(tmp_path)["model"]
    assert set(old) == set(new)
    assert any("running_mean" in name for name in old), "the statistics of the CNN are compared too"
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == names


@pytest.mark.parametrize("stage", STAGES)
def test_the_recipes_of_the_two_stages_train_what_the_paper_says(stage, request):
    loaded = load_recipe(request.config.rootpath / "recipes" / f"{stage}.toml")
    assert (loaded.bias_tuning, loaded.trainable) == STAGES[stage]


def test_alignment_trains_projector_attention_and_norms_of_the_language_model_only(model):
    names = choose_trainable(model, STAGES["align"][1])
    assert names == [name for name in sorted(names) if "vision_encoder" not in name]
    layer = "language_model.model.layers.1."
    for part in ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "input_layernorm.weight"):
        assert layer + part in names
    assert "mm_projector.linear.weight" in names and "language_model.model.norm.weight" in names
    assert not [name for name in names if "mlp" in name or "embed" in name or "lm_head" in name]
    # The projector, image start and end; attention and norms of two layers; the last norm.
    assert len(names) == 4 + 2 + 2 * (4 + 2) + 1


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path, model):
    with pytest.raises(EarthGPTError, match=r"no parameter of the model is named like 'projector\.\*'"):
        train(recipe(tmp_path, trainable=("mm_projector.*", "projector.*")))
    with pytest.raises(EarthGPTError, match="alpha"):
        choose_trainable(model, ("*.alpha",))


def test_frozen_parts_stay_in_the_mode_of_use(model):
    choose_trainable(model, ("mm_projector.*",))
    training.train_mode(model)
    assert not any(module.training for module in model.vision_encoder.modules())
    assert model.mm_projector.linear.training
    choose_trainable(model, ("*",))
    training.train_mode(model)
    assert all(module.training for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))


# --- learning ----------------------------------------------------------------------------------------------------


def test_a_model_from_scratch_learns_a_handful_of_scenes_by_heart_and_still_knows_them_when_loaded(tmp_path):
    source = Source(dataset="synthetic", split="val", tasks=("scene_classification",))
    sizes = {"steps": 80, "batch_size": 9, "save_every": 80, "text_tokens": 96}
    trained = train(recipe(tmp_path, sources=(source,), learning_rate=1e-2, augment=False, clip=1.0, **sizes))
    assert trained.losses[0] > 5  # a guess among some 500 tokens costs ln 500 = 6.2
    assert np.mean(trained.losses[-5:]) < trained.losses[0] / 20
    model, processor = load(trained.folder)
    samples = list(synthetic.DATASET.read("", "val"))
    squares = [processor.square(sample.image(), sample.sensor) for sample in samples]
    asked = [Conversation.of((sample.name,), "Classify the scene.") for sample in samples]
    answers = generate(model, processor, asked, squares, max_new_tokens=8)
    assert len({sample.label for sample in samples}) > 4
    assert [answer.text for answer in answers] == [sample.label for sample in samples]
    assert all(answer.finished for answer in answers)


def test_the_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    some = recipe(tmp_path, steps=100, warmup=0.1)
    assert schedule(0, some) == pytest.approx(0.1)
    assert schedule(9, some) == 1.0
    assert schedule(55, some) == pytest.approx(0.5)  # the middle of the cosine
    assert schedule(100, some) == pytest.approx(0.0, abs=1e-12)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(EarthGPTError, match=r"The loss is (nan|inf) at step \d+; lower the learning rate"):
        train(recipe(tmp_path, learning_rate=1e30, clip=1e30, warmup=0.0, save_every=50, batch_size=2))


def test_a_batch_in_which_no_image_has_a_turn_changes_nothing_and_is_counted(tmp_path, model_folder, capsys):
    found = train(recipe(tmp_path, model=str(model_folder), text_tokens=3, steps=2))
    assert found.losses == (0.0, 0.0)
    assert "6 images had no turn to learn" in capsys.readouterr().err
