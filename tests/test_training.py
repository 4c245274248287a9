"""Training goes on exactly where it stopped, changes only what it may, and learns."""

import functools
import json
import random
import re
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from earthgpt import training
from earthgpt.config import NewModel, Recipe, Source, load_recipe
from earthgpt.datasets import synthetic
from earthgpt.generation import generate
from earthgpt.model.loading import load
from earthgpt.tasks import Turn
from earthgpt.training import Mixture, choose_trainable, schedule, source_tasks, train
from earthgpt.types import Conversation, EarthGPTError, Sample, Sensor

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
    "align": (False, ("mm_projector.*", "language_model.*.self_attn.*", "language_model.*norm*.weight")),
    "instruct": (True, ("language_model.*.alpha", "language_model.*.beta")),
}


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    """Nine synthetic scenes in the split "val", each drawn once."""
    monkeypatch.setitem(synthetic.SPLITS, "val", range(9))
    monkeypatch.setattr(training, "read_pixels", functools.cache(training.read_pixels))


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

    def save_and_die(folder, step, model, optimizer):
        save(folder, step, model, optimizer)
        if step == steps:
            raise Killed

    monkeypatch.setattr(training, "save", save_and_die)


def state(folder):
    return torch.load(folder / "checkpoint" / "state.pt", weights_only=True)


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
    before = (tmp_path / "checkpoint" / "state.pt").read_bytes()
    with pytest.raises(EarthGPTError, match=r"another recipe \(learning_rate, seed changed\)"):
        train(recipe(tmp_path, steps=2, seed=1, learning_rate=1e-3))
    assert (tmp_path / "checkpoint" / "state.pt").read_bytes() == before


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(Killed):
            train(recipe(tmp_path, steps=4))

    def disk_is_full(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training.torch, "save", disk_is_full)
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
    assert len(names) == 4 + 2 * (4 + 2) + 1  # the projector; attention and norms of two layers; the last norm


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


# --- the mixture -------------------------------------------------------------------------------------------------


def mixture(output, processor, **changes) -> Mixture:
    some = recipe(output, **changes)
    samples = [
        (source, list(synthetic.DATASET.read(source.root, source.split))[: 4 if number else 6])
        for number, source in enumerate(some.sources)
    ]
    return Mixture(some, samples, processor)


def test_an_item_of_the_mixture_depends_on_recipe_and_number_alone(tmp_path, processor):
    one, other = mixture(tmp_path, processor), mixture(tmp_path, processor)
    for index in (7, 0, 14):
        other[index]  # asked for in another order, after others
    for index in (0, 7, 14):
        (rendered, square, missed), (rendered_again, square_again, missed_again) = one[index], other[index]
        assert rendered == rendered_again and missed == missed_again
        assert np.array_equal(square, square_again)
    reseeded = mixture(tmp_path, processor, seed=1)
    assert [reseeded[index][0] for index in range(6)] != [one[index][0] for index in range(6)]


def test_an_epoch_holds_every_image_as_often_as_its_source_repeats(tmp_path, processor):
    source = Source(dataset="synthetic", split="val")
    many = mixture(
        tmp_path, processor,
        sources=(source.model_copy(update={"repeat": 2.5}), source.model_copy(update={"repeat": 0.5})),
    )  # fmt: skip
    assert many.epoch_size == 6 * 2.5 + 4 * 0.5
    epochs = [Counter(many.place(index) for index in range(17 * epoch, 17 * (epoch + 1))) for epoch in range(8)]
    for epoch in epochs:
        assert sorted(epoch[0, row] for row in range(6)) == [2, 2, 2, 3, 3, 3]
        assert sorted(epoch[1, row] for row in range(4)) == [0, 0, 1, 1]
    assert len({tuple(sorted(epoch.items())) for epoch in epochs}) > 1, "the fraction is drawn anew"
    orders = [[many.place(17 * epoch + i) for i in range(17)] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert [many.place(i) for i in range(17)] == orders[0], "going back gives the same order again"


def test_turns_that_are_longer_than_text_tokens_are_counted_and_left_out(tmp_path, processor):
    some = mixture(tmp_path, processor, text_tokens=24)
    (task,) = source_tasks(Source(dataset="synthetic", tasks=("image_captioning",)))
    sample = some.samples[0][0]
    short, long = Turn("What?", "Ship"), Turn("What?", "0" * 40)
    chosen, missed = some.fill([(task, long), (task, short)], sample, random.Random(0))
    assert chosen == [(task, short)]
    assert missed == {"turns were longer than text_tokens and left out": 1}
    chosen, missed = some.fill([(task, long), (task, long)], sample, random.Random(0))
    assert chosen == []
    assert missed["turns were longer than text_tokens and left out"] == 2
    assert missed["images had no turn to learn"] == 1


def test_the_text_of_an_image_never_exceeds_text_tokens(tmp_path, processor):
    some = mixture(tmp_path, processor, text_tokens=120)
    lengths = [len(some[index][0]["input_ids"]) - 1 - processor.tokens_per_image for index in range(12)]
    assert 60 < max(lengths) <= 120


def test_a_batch_in_which_no_image_has_a_turn_changes_nothing_and_is_counted(tmp_path, model_folder, capsys):
    found = train(recipe(tmp_path, model=str(model_folder), text_tokens=3, steps=2))
    assert found.losses == (0.0, 0.0)
    assert "6 images had no turn to learn" in capsys.readouterr().err


def numbers_written(some: Mixture) -> set[int]:
    """How many decimals the coordinates of the first six items have."""
    decode = some.processor.tokenizer.decode
    texts = [decode([label for label in some[index][0]["labels"] if label >= 0]) for index in range(6)]
    return {len(number) for text in texts for number in re.findall(r"\b[01]\.(\d+)", text)}


@pytest.mark.parametrize("decimals", [2, 3])
def test_the_coordinates_have_the_decimals_of_the_recipe(tmp_path, processor, decimals):
    detection = (Source(dataset="synthetic", split="val", tasks=("object_detection",)),)
    some = mixture(tmp_path, processor, sources=detection, decimals=decimals, text_tokens=512)
    assert numbers_written(some) == {decimals}


def test_the_part_of_a_source_that_is_held_out_is_not_trained_on(tmp_path):
    def names(part):
        some = recipe(tmp_path, sources=(Source(dataset="synthetic", split="val", part=part),))
        return [sample.name for sample in training.read_sources(some, Console(quiet=True))[0][1]]

    assert names("val") == ["sar/4", "optical/6", "infrared/8"]
    assert len(names(None)) == 9
    assert sorted(names("train") + names("val")) == sorted(names(None))


@pytest.mark.parametrize("content", [b"", b"not an image"], ids=["empty", "text"])
def test_a_file_that_is_no_image_is_an_error_with_its_name(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(EarthGPTError, match=r"broken\.png is not a readable image"):
        training.read_pixels(Sample(path, "broken", (4, 4), Sensor.OPTICAL))


def test_pixels_are_read_grey_or_in_three_colours(tmp_path):
    for mode, shape in (("L", (3, 5)), ("RGBA", (3, 5, 3)), ("P", (3, 5, 3))):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (5, 3)).save(path)
        assert training.read_pixels(Sample(path, mode, (5, 3), Sensor.OPTICAL)).shape == shape
