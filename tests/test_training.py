"""Training goes on exactly where it stopped, changes only what it may, and learns."""

import copy
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from transformers import LlamaForCausalLM

from earthgpt import calibration, checkpoints, training
from earthgpt import mixture as mixtures
from earthgpt.building import build
from earthgpt.checkpoints import Checkpoints
from earthgpt.config import BuildRecipe, LoRA, NewModel, Recipe, Source, load_recipe
from earthgpt.datasets import synthetic
from earthgpt.features import digest_of
from earthgpt.generation import generate
from earthgpt.logs import RunLog
from earthgpt.model import efficientnet
from earthgpt.model.efficientnet import EfficientNetLiteConfig, EfficientNetLiteModel
from earthgpt.model.loading import load
from earthgpt.model.vision import VisionEncoder
from earthgpt.preparation import choose_trainable, keep_precision, prepare, train_mode
from earthgpt.training import export, schedule, train
from earthgpt.types import Conversation, EarthGPTError, StoppedError

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
    "align": {
        "trainable": (
            "mm_projector.*", "image_start", "image_end", "language_model.*.self_attn.*",
            "language_model.*norm*.weight",
        )
    },
    "instruct": {"bias_tuning": True, "trainable": ("language_model.*.alpha", "language_model.*.beta")},
    "lora": {"lora": LoRA(), "trainable": ("language_model.*.lora_*",)},
    "full": {"trainable": ("mm_projector.*", "image_start", "image_end", "language_model.*")},
}  # fmt: skip


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
    save = Checkpoints.save

    def save_and_die(self, step, *rest):
        save(self, step, *rest)
        if step == steps:
            self.put_in_place()
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save_and_die)


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
    assert [(line["step"], line["loss"]) for line in lines] == list(enumerate(whole.losses, 1))


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
        patch.setattr(checkpoints.dcp, "async_save", disk_is_full)
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
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_stage_changes_what_its_patterns_name_and_not_one_bit_of_the_rest(stage, precision, tmp_path, model_folder):
    # Two steps of a size that bfloat16, in which models are written, cannot round away.
    steps = {"steps": 2, "batch_size": 2, "learning_rate": 0.05, "warmup": 0.0, "precision": precision}
    trained = train(recipe(tmp_path, model=str(model_folder), **STAGES[stage], **steps))
    before, _ = load(model_folder)
    if stage == "instruct":
        before.add_bias_tuning()
    if stage == "lora":
        before.add_lora(**LoRA().model_dump())
    names = set(choose_trainable(before, STAGES[stage]["trainable"]))
    old, new = (one.to(torch.bfloat16).state_dict() for one in (before, load(trained.folder)[0]))
    assert set(old) == set(new)
    assert any("running_mean" in name for name in old), "the statistics of the CNN are compared too"
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    # The random half of a LoRA has no gradient in the first step, and hardly one in the second.
    assert changed <= names and {name for name in names - changed if "lora_A" not in name} == set()
    assert set(state(tmp_path)["model"]) >= names, "what is trained is in the checkpoint,"
    assert not any(name.endswith("base_layer.weight") for name in state(tmp_path)["model"]), "what is frozen is not"


@pytest.mark.parametrize("stage", STAGES)
def test_the_recipes_of_the_stages_train_what_they_say(stage, request):
    loaded = load_recipe(request.config.rootpath / "recipes" / f"{stage}.toml")
    wanted = {"bias_tuning": False, "lora": None, **STAGES[stage]}
    assert (loaded.bias_tuning, loaded.trainable) == (wanted["bias_tuning"], wanted["trainable"])
    assert (loaded.lora is None) == (wanted["lora"] is None)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trained_weights_are_float32_and_frozen_ones_as_the_arithmetic(precision, model):
    choose_trainable(model, ("mm_projector.*",))
    keep_precision(model, precision)
    kinds = {parameter.dtype for name, parameter in model.named_parameters() if name.startswith("mm_projector")}
    assert kinds == {torch.float32}
    others = (*model.vision_encoder.state_dict().items(), *model.language_model.named_parameters())
    assert {value.dtype for name, value in others if value.is_floating_point()} == {getattr(torch, precision)}
    assert model.language_model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_alignment_trains_projector_attention_and_norms_of_the_language_model_only(model):
    names = choose_trainable(model, STAGES["align"]["trainable"])
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


def test_a_run_that_failed_before_its_first_checkpoint_leaves_no_classes_behind(tmp_path):
    eyes = {"text_tokens": 0, "dense": 1.0, "steps": 1, "augment": False}
    with pytest.raises(EarthGPTError, match="no parameter"):
        train(recipe(tmp_path, trainable=("nothing.*",), **eyes))
    kept = tmp_path / "classes.json"
    kept.write_text(kept.read_text().replace("airplane", "aeroplane"))
    train(recipe(tmp_path, **eyes))
    assert "aeroplane" not in kept.read_text() and "airplane" in kept.read_text()


def test_frozen_parts_stay_in_the_mode_of_use(model):
    choose_trainable(model, ("mm_projector.*",))
    train_mode(model)
    assert not any(module.training for module in model.vision_encoder.modules())
    assert model.mm_projector.linear.training
    choose_trainable(model, ("*",))
    train_mode(model)
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
    with pytest.raises(EarthGPTError, match=r"at step \d+; lower the learning rate. What it saw is in"):
        train(recipe(tmp_path, learning_rate=1e30, clip=1e30, warmup=0.0, save_every=50, batch_size=2))


def test_a_batch_in_which_no_image_has_a_turn_changes_nothing_and_is_counted(tmp_path, model_folder, capsys):
    found = train(recipe(tmp_path, model=str(model_folder), text_tokens=3, steps=2))
    assert found.losses == (0.0, 0.0)
    assert "6 images had no turn to learn" in capsys.readouterr().err


# --- efficient, with the same result -----------------------------------------------------------------------------


def test_features_of_frozen_encoders_are_looked_up_and_change_nothing(tmp_path, model_folder, monkeypatch):
    options = {"model": str(model_folder), **STAGES["instruct"], "augment": False, "steps": 6, "cache": True}
    encoded = []
    forward = VisionEncoder.forward

    def counted(self, pixels, *options):
        if pixels.device.type != "meta":
            encoded.append(len(pixels))
        return forward(self, pixels, *options)

    monkeypatch.setattr(VisionEncoder, "forward", counted)
    cached = train(recipe(tmp_path / "cached", **options))
    assert encoded == [3, 3, 3], "nine images are encoded in three steps, and then never again"
    again = recipe(tmp_path / "again", **options)
    features = tmp_path / "again" / "features"
    shutil.copytree(tmp_path / "cached" / "features", features)
    assert train(again).losses == cached.losses and sum(encoded) == 9
    plain = train(recipe(tmp_path / "plain", **{**options, "cache": False}))
    assert plain.losses == pytest.approx(cached.losses, rel=1e-3)  # kept in bfloat16
    as_many = (Source(dataset="synthetic", split="val", tasks=("scene_classification",)),)
    other = recipe(tmp_path / "again", **{**options, "sources": as_many})
    shutil.rmtree(tmp_path / "again" / "checkpoints")
    with pytest.raises(EarthGPTError, match="features of other encoders or images"):
        train(other)


def test_encoders_with_the_same_numbers_in_another_order_are_told_apart():
    encoder = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).to(torch.bfloat16)
    before = digest_of(encoder, {})
    assert digest_of(copy.deepcopy(encoder), {}) == before != digest_of(encoder, {"vit_layers": [1, 1]})
    with torch.no_grad():
        encoder[0].weight.copy_(encoder[0].weight.flip(0))
    assert digest_of(encoder, {}) != before


def test_features_of_trained_encoders_are_not_kept(tmp_path, model_folder):
    with pytest.raises(EarthGPTError, match="`trainable` trains them"):
        train(recipe(tmp_path, model=str(model_folder), augment=False, cache=True))
    with pytest.raises(ValueError, match="turn one of them off"):
        recipe(tmp_path, cache=True, augment=True)


def test_what_runs_out_of_memory_is_told_the_way_out(tmp_path, monkeypatch):
    def no_room(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", no_room)
    with pytest.raises(EarthGPTError, match=r"Set accumulate = 2 and checkpointing = true, a smaller batch_size"):
        train(recipe(tmp_path))


def test_a_run_looks_at_validation_data_and_says_what_the_model_said(tmp_path):
    source = Source(dataset="synthetic", split="val", tasks=("scene_classification", "visual_question_answering"))
    train(recipe(tmp_path, steps=4, validate_every=2, validation=(source,), validation_questions=5))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    figures = [line for line in lines if "synthetic/scene_classification/accuracy_strict" in line]
    assert [line["step"] for line in figures] == [2, 4]
    answers = [line for line in lines if line.get("task") == "synthetic/visual_question_answering"]
    assert len(answers) == 2 and set(answers[0]["answers"][0]) == {"image", "question", "true", "said"}


def test_validation_that_a_stop_came_before_is_made_up_for(tmp_path, monkeypatch):
    source = Source(dataset="synthetic", split="val", tasks=("scene_classification",))
    made = recipe(tmp_path, steps=4, validate_every=2, validation=(source,), validation_questions=5)
    step = RunLog.step

    def stopped(self, number, figures):
        step(self, number, figures)
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunLog, "step", stopped)
    with pytest.raises(StoppedError, match="after step 2 of 4"):
        train(made)
    monkeypatch.setattr(RunLog, "step", step)
    train(made)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "task" in line] == [2, 4]


def test_a_model_that_is_trained_as_a_whole_in_bfloat16_is_validated(tmp_path):
    source = Source(dataset="synthetic", split="val")
    options = {"precision": "bfloat16", "trainable": ("*",), "dense": 0.0}
    train(recipe(tmp_path, steps=1, validate_every=1, validation=(source,), validation_questions=4, **options))
    assert "unparsed" in (tmp_path / "log.jsonl").read_text()


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    folder = tmp_path / "in"
    for name in ("lake", "pond"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (32, 32), (i, 90, 90)).save(folder / name / f"{i}.png")
    source = Source(dataset="own_classes", root=str(folder), split="all")
    made = recipe(tmp_path / "out", sources=(source,), steps=2)
    train(made)
    train(made)  # the same data
    (folder / "pond" / "1.png").rename(folder / "pond" / "9.png")
    with pytest.raises(EarthGPTError, match=r"own_classes all holds other data .*\(6 images then, 6 now\)"):
        train(made)
    (folder / "pond" / "9.png").rename(folder / "lake" / "9.png")  # another fact
    with pytest.raises(EarthGPTError, match="holds other data"):
        train(made)
    (folder / "lake" / "9.png").unlink()
    with pytest.raises(EarthGPTError, match=r"\(6 images then, 5 now\)"):
        train(made)


def test_a_run_and_an_instruction_set_do_not_share_a_folder(tmp_path):
    train(recipe(tmp_path / "run", steps=1))
    built = BuildRecipe(output=str(tmp_path / "run"), sources=({"dataset": "synthetic"},))
    with pytest.raises(EarthGPTError, match="holds a training run"):
        build(built)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_text("{}")
    (tmp_path / "set" / "recipe.json").write_text('{"sources": []}')
    with pytest.raises(EarthGPTError, match="holds an instruction set"):
        train(recipe(tmp_path / "set", steps=1))
    with pytest.raises(EarthGPTError, match=r"recipe\.json is damaged, or of something else"):
        export(tmp_path / "set", tmp_path / "model")


@pytest.mark.parametrize("part", [".metadata", "__0_0.distcp"])
def test_a_damaged_checkpoint_is_named(tmp_path, part):
    made = recipe(tmp_path, steps=2)
    train(made)
    path = tmp_path / "checkpoints" / "00000002" / part
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EarthGPTError, match=r"checkpoint .*00000002 is damaged .*: delete it"):
        train(made)
    path.unlink()
    with pytest.raises(EarthGPTError, match="is damaged"):
        export(tmp_path, tmp_path / "model2")


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    made = recipe(tmp_path, steps=2)
    train(made)

    def closed(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "checkpoints")

    monkeypatch.setattr(checkpoints.dcp, "load", closed)
    with pytest.raises(PermissionError):
        train(made)


def test_what_cannot_be_validated_is_told_before_anything_is_trained(tmp_path):
    source = Source(dataset="synthetic", split="val", tasks=("scene_clasification",))
    with pytest.raises(EarthGPTError, match=r"No 'scene_clasification' among the tasks\. Did you mean"):
        train(recipe(tmp_path, steps=2, validate_every=1, validation=(source,)))
    assert not (tmp_path / "log.jsonl").exists()


def test_the_log_has_speed_memory_and_gradients(tmp_path):
    train(recipe(tmp_path, steps=2))
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    wanted = {"step", "loss", "lr", "norm", "images_per_s", "tokens_per_s", "mfu", "waited", "memory_gb"}
    assert set(line) == wanted
    assert 0 < line["mfu"] < 1 and 0 <= line["waited"] < 1 and line["tokens_per_s"] > line["images_per_s"] > 0


def test_a_checkpoint_is_exported_as_a_plain_model(tmp_path, monkeypatch, model_folder):
    options = {"model": str(model_folder), **STAGES["instruct"], "steps": 4}
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(Killed):
            train(recipe(tmp_path / "run", **options))
    assert export(tmp_path / "run", tmp_path / "halfway") == 2
    found = load(tmp_path / "halfway")[0].state_dict()
    kept = state(tmp_path / "run")["model"]
    name = "language_model.model.layers.0.mlp.up_proj.beta"
    assert kept[name].abs().max() > 0 and torch.equal(found[name], kept[name].bfloat16().float())
    frozen = "language_model.model.layers.0.mlp.up_proj.weight"
    assert torch.equal(found[frozen], load(model_folder)[0].state_dict()[frozen].bfloat16().float())
    with pytest.raises(EarthGPTError, match="is there already"):
        export(tmp_path / "run", tmp_path / "halfway")
    with pytest.raises(EarthGPTError, match=r"no recipe\.json"):
        export(tmp_path, tmp_path / "other")


# --- dense supervision -------------------------------------------------------------------------------------------


def test_encoders_learn_from_facts_alone_and_go_on_exactly(tmp_path, monkeypatch):
    eyes = {
        "trainable": ("vision_encoder.*", "mm_projector.*", "dense_heads.*"), "text_tokens": 0, "dense": 1.0,
        "steps": 4,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(LlamaForCausalLM, "forward", None)  # the language model does not run
        whole = train(recipe(tmp_path / "whole", **eyes))
        kill_at(patch, 2)
        with pytest.raises(Killed):
            train(recipe(tmp_path / "broken", **eyes))
    assert train(recipe(tmp_path / "broken", **eyes)).losses == whole.losses[2:]
    export(tmp_path / "broken", tmp_path / "exported")
    heads = {str(path): load(str(path))[0].dense_heads for path in (whole.folder, tmp_path / "exported")}
    assert load(tmp_path / "exported")[0].config.runs == load(whole.folder)[0].config.runs
    one, other = (dict(found.named_parameters()) for found in heads.values())
    assert all(torch.equal(one[name], other[name]) for name in one)
    # The heads go on into the next stage. One without them keeps them as they are, or leaves them out where it trains
    # what they read from.
    more = {"model": str(whole.folder), "steps": 1}
    both = train(recipe(tmp_path / "both", dense=0.5, **more))
    told = load(str(both.folder))[0].config.runs  # a model knows what runs it comes from
    assert [(run["steps"], run["text_tokens"], run["dense"]) for run in told] == [(4, 0, 1.0), (1, 96, 0.5)]
    assert told[0]["sources"] == [{"dataset": "synthetic", "split": "val"}]
    line = json.loads((tmp_path / "both" / "log.jsonl").read_text())
    assert 0 < 0.5 * line["dense_loss"] < line["loss"] == both.losses[0]
    assert load(str(both.folder))[0].dense_heads is not None
    plain = train(recipe(tmp_path / "plain", **more))
    model = load(str(plain.folder))[0]
    assert model.dense_heads is None and model.config.dense is None
    spoken = load(str(train(recipe(tmp_path / "spoken", trainable=("language_model.*",), **more)).folder))[0]
    assert all(torch.equal(value, one[name]) for name, value in spoken.dense_heads.named_parameters())


def test_heads_go_on_where_they_know_the_classes_and_else_start_anew(tmp_path):
    def prepared(name, parts):
        (tmp_path / name).mkdir()
        return prepare(recipe(tmp_path / name, model="earthgpt-tiny", dense=0.5), parts, told.append)[0].dense_heads

    told, known = [], Source(dataset="synthetic", split="val")
    heads, before = prepared("known", mixtures.open_sources(recipe(tmp_path, sources=(known,)))), load()[0].dense_heads
    assert told == [] and torch.equal(heads.scene.weight, before.scene.weight)
    assert heads.vocabulary == before.vocabulary
    (tmp_path / "in" / "peat bog").mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (30, 30)).save(tmp_path / "in" / "peat bog" / f"{i}.png")
    own = Source(dataset="own_classes", root=str(tmp_path / "in"), split="all")
    (part,) = mixtures.open_sources(recipe(tmp_path, sources=(own,)))
    assert prepared("new", [part]).vocabulary.scenes == ("peat bog",)
    assert "start anew" in told[0] and "peat bog" in told[0]
    part.samples = [replace(sample, choices=()) for sample in part.samples]
    with pytest.raises(EarthGPTError, match="there is nothing to learn"):
        prepared("none", [part])


def test_a_run_may_end_with_true_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibration, "FEWEST", 2)
    eyes = {"text_tokens": 0, "dense": 1.0, "steps": 2}
    plain = load(train(recipe(tmp_path / "plain", **eyes)).folder)[0].dense_heads
    with pytest.raises(ValueError, match=r"needs \[\[validation\]\] data sets, and dense"):
        recipe(tmp_path, calibrate=0.5)
    held = (Source(dataset="synthetic", split="val"),)
    true = load(train(recipe(tmp_path / "true", calibrate=1.0, validation=held, **eyes)).folder)[0].dense_heads
    told = capsys.readouterr().err
    scale = float(re.search(r"Classes of scenes: logits are scaled by (-?[\d.]+\d)", told)[1])
    assert torch.allclose(true.scene.weight, plain.scene.weight * scale, rtol=0.02, atol=1e-3)
    assert torch.equal(true.levels[0].coarse.weight, plain.levels[0].coarse.weight)


def test_parts_of_a_batch_have_nearly_the_dense_loss_of_the_whole(tmp_path):
    # Each part takes the mean over its own places with an object.
    eyes = {"text_tokens": 0, "dense": 1.0, "steps": 1, "batch_size": 4, "augment": False}
    losses = [train(recipe(tmp_path / str(parts), accumulate=parts, **eyes)).losses[0] for parts in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_images_are_read_once_while_there_is_room(tmp_path, monkeypatch):
    images = iter(range(9))
    few = recipe(tmp_path, pixels_gb=4 * 2 * 96 * 96 * 3 / 2**30, image_size=32)

    def image():
        return np.full((128, 96, 3), next(images), np.uint8)

    monkeypatch.undo()  # what is read is counted here
    part = mixtures.open_sources(few)[0]
    sample = replace(part.samples[0], image=image)
    seen = [part.pixels.read(row, sample) for row in (0, 1, 0, 2, 3, 0)]
    assert seen[0].shape == (96, 72, 3)  # three times the side that the model sees
    assert [int(one.max()) for one in seen] == [0, 1, 0, 2, 3, 0]
    assert seen[0] is seen[2] is seen[5]


SMALL = """
output = "{output}"
steps = 1
batch_size = 3
workers = 0
{rest}
[[sources]]
dataset = "synthetic"
split = "val"
[model]
vocabulary = 512
vit = {{ model_type = "dinov2", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, patch_size = 16, \
image_size = 64 }}
cnn = {{ model_type = "resnet", layer_type = "basic", embedding_size = 8, hidden_sizes = [8, 16, 16, 32], \
depths = [1, 1, 1, 1] }}
text = {{ model_type = "llama", hidden_size = 32, intermediate_size = 64, num_hidden_layers = 2, \
num_attention_heads = 2, max_position_embeddings = 512, tie_word_embeddings = true }}
"""


def test_the_stage_before_is_trained_first_and_once(tmp_path, monkeypatch):
    eyes, words = tmp_path / "eyes.toml", tmp_path / "words.toml"
    eyes.write_text(SMALL.format(output=tmp_path / "eyes", rest="text_tokens = 0\ndense = 1.0"))
    text = SMALL.format(output=tmp_path / "words", rest='after = "eyes.toml"')
    words.write_text(text[: text.index("[model]")])
    loaded = load_recipe(words)
    assert loaded.model == str(tmp_path / "eyes" / "model")
    assert load_recipe(words, ["model=other"]).model == "other"
    with pytest.raises(EarthGPTError, match="No model 'earthgpt-tony'"):  # and the stage before is not trained for it
        train(loaded.model_copy(update={"model": "earthgpt-tony"}))
    assert not (tmp_path / "eyes").exists()
    (tmp_path / "round.toml").write_text(words.read_text().replace("eyes.toml", "round.toml"))
    with pytest.raises(EarthGPTError, match=r"the stages go in a circle, .*round\.toml comes after itself"):
        load_recipe(tmp_path / "round.toml")
    first = train(loaded)
    assert load(loaded.model)[0].dense_heads is not None
    monkeypatch.setattr(training, "load_recipe", None)  # the stage before is not looked at again
    again = train(loaded.model_copy(update={"output": str(tmp_path / "again")}))
    assert again.losses == first.losses


def test_a_new_model_starts_from_published_weights_of_its_cnn(tmp_path):
    network = EfficientNetLiteModel(EfficientNetLiteConfig())
    names = {ours: theirs for theirs, ours in efficientnet._published_names(network.config).items()}
    published = {}
    for name, value in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        published[f"{names[layer]}.{kind}"] = value
    torch.save(published, tmp_path / "lite0.pth")
    text = SMALL.format(output=tmp_path / "run", rest='text_tokens = 0\ndense = 1.0\ntrainable = ["mm_projector.*"]')
    path = tmp_path / "recipe.toml"
    cnn = f'cnn = {{ model_type = "efficientnet_lite" }}\ncnn_weights = "{tmp_path / "lite0.pth"}"\ncnn_stages = [2, 7]'
    lines = text.splitlines()
    path.write_text("\n".join(cnn if line.startswith("cnn = ") else line for line in lines))
    model, _ = load(train(path).folder, dtype="float32")
    kept = model.vision_encoder.cnn.state_dict()
    assert all(torch.equal(kept[name], value.bfloat16().float()) for name, value in network.state_dict().items()
               if value.is_floating_point())  # fmt: skip
    assert tuple(model.config.cnn_mean) == efficientnet.MEAN
    path.write_text(text.replace("vocabulary = 512", f'vocabulary = 512\ncnn_weights = "{tmp_path / "lite0.pth"}"'))
    with pytest.raises(EarthGPTError, match="EfficientNet-Lite"):
        train(load_recipe(path, [f"output={tmp_path / 'other'}"]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_a_signal_stops_says_so_by_its_code_and_goes_on(tmp_path, number):
    small = tmp_path / "small.toml"
    small.write_text(
        SMALL.format(output=tmp_path / "run", rest="text_tokens = 96").replace("steps = ", "steps = 9999 # ")
    )
    command = [sys.executable, "-m", "earthgpt", "train", str(small)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    while run.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.1)
    run.send_signal(number)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 128 + number
    step = int(re.search(r"Stopped after step (\d+) of 9999; the same command goes on", " ".join(said.split()))[1])
    assert (tmp_path / "run" / "checkpoints" / f"{step:08d}").is_dir()


@pytest.mark.parametrize("sides", [{"image_size": 33}, {"image_sizes": (32, 33)}])
def test_a_side_that_patches_do_not_fill_is_refused(tmp_path, sides):
    with pytest.raises(EarthGPTError, match="33 px are no multiple of the ViT's"):
        train(recipe(tmp_path, **{"text_tokens": 0, "dense": 1.0, "image_size": None, **sides}))
    with pytest.raises(ValueError, match="image_sizes goes without text"):
        recipe(tmp_path, image_sizes=(32,))


def test_a_step_without_text_draws_the_side_of_its_images(tmp_path):
    one = recipe(tmp_path / "a", text_tokens=0, dense=1.0, steps=40, batch_size=2, image_sizes=(32, 64))
    parts = mixtures.open_sources(one)
    mixture = mixtures.Mixture(one, parts, prepare(one, parts)[1])
    shown = [mixture[index].image.shape[0] for index in range(80)]
    assert set(shown) == {32, 64} and shown[::2] == shown[1::2]  # the same within a step
    losses = train(recipe(tmp_path / "b", text_tokens=0, dense=1.0, steps=4, image_sizes=(32, 64))).losses
    assert len(losses) == 4 and losses[-1] > 0
