"""Public parts become one model: every weight as it was, every name matched, every mistake told before it costs."""

import copy
import json
import shutil

import numpy as np
import parts
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.assemble import assemble, make_room, merge
from earthgpt.model.bias_tuning import BiasTunedLinear
from earthgpt.model.dense import Vocabulary
from earthgpt.model.open_clip import read_release, renamed
from earthgpt.model.presets import IMAGE_SIZES, PRESETS, configuration, on_meta, size_of
from earthgpt.model.vision import VisionEncoder, without_pooling
from earthgpt.types import EarthGPTError


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    """A folder with one release of each part: vit, cnn (in the form of open_clip) and text, in several files each."""
    root = tmp_path_factory.mktemp("released")
    parts.vit(root / "vit")
    parts.open_clip(root / "cnn")
    parts.text(root / "text")
    return root


@pytest.fixture(scope="session")
def assembled(released, tmp_path_factory):
    """The three parts as one model in float32."""
    folder = tmp_path_factory.mktemp("assembled") / "model"
    assemble(folder, released / "vit", released / "cnn", released / "text", 64, "float32")
    return folder


def loaded(folder):
    """Model and processor, by the Auto classes."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert type(model) is EarthGPTForConditionalGeneration
    return model, AutoProcessor.from_pretrained(folder)


def same(ours, theirs):
    """Whether two modules have the same weights, bit for bit."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert list(ours) == list(theirs)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def noise(side, seed=0):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


# --- the whole ---------------------------------------------------------------------------------------------------


def test_the_parts_keep_their_weights_bit_for_bit(assembled, released):
    model, _ = loaded(assembled)
    assert same(model.vision_encoder.vit, AutoModel.from_pretrained(released / "vit"))
    trunk = load_file(released / "cnn" / "open_clip_model.safetensors")
    trunk = {key.removeprefix("visual.trunk."): value for key, value in trunk.items() if "trunk" in key}
    ours = model.vision_encoder.cnn.state_dict()
    assert len(trunk) == len(ours)
    assert all(torch.equal(ours[renamed(name)], value) for name, value in trunk.items())
    theirs = AutoModelForCausalLM.from_pretrained(released / "text").state_dict()
    for name, value in model.language_model.state_dict().items():
        assert torch.equal(value[: len(theirs[name])], theirs[name]), name


def test_the_model_generates_from_a_picture(assembled):
    model, processor = loaded(assembled)
    assert type(processor) is EarthGPTProcessor
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    inputs = processor(picture, "What is this?")
    assert int((inputs["input_ids"] == processor.image_token_id).sum()) == model.config.tokens_per_image == 18
    start = inputs["input_ids"].shape[1]
    written = model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)[0, start:]
    assert len(written) == 5 and isinstance(processor.tokenizer.decode(written), str)


def test_a_bfloat16_model_takes_the_pixels_of_its_processor_as_they_are(released, tmp_path):
    assemble(tmp_path / "model", released / "vit", released / "cnn", released / "text", 64)
    model, processor = loaded(tmp_path / "model")
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    inputs = processor(np.zeros((64, 64, 3), np.uint8), "What is this?")
    assert inputs["pixel_values"].dtype == torch.float32
    assert torch.isfinite(model(**inputs).logits).all()


def test_pixels_are_normalised_for_the_vit_and_the_cnn_gets_its_own(assembled):
    model, processor = loaded(assembled)
    assert processor.image_mean == model.config.vit_mean == [0.485, 0.456, 0.406]
    assert (model.config.cnn_mean, model.config.cnn_std) == (parts.CLIP_MEAN, parts.CLIP_STD)
    white = processor.normalise([np.full((64, 64, 3), 255, np.uint8)])
    for_cnn = model.vision_encoder.pixels_for_cnn(white)[0, :, 5, 5]
    expected = (1 - torch.tensor(parts.CLIP_MEAN)) / torch.tensor(parts.CLIP_STD)
    torch.testing.assert_close(for_cnn, expected)


def test_the_projector_is_new_the_same_for_the_same_seed_and_small(assembled, released, tmp_path):
    names = ("mm_projector.linear.weight", "image_start", "image_end")
    first = loaded(assembled)[0].state_dict()
    folders = {}
    for seed in (0, 1):
        torch.manual_seed(seed + 7)  # what else is drawn does not matter
        before = torch.get_rng_state()
        folders[seed] = tmp_path / str(seed)
        assemble(folders[seed], released / "vit", released / "cnn", released / "text", 64, "float32", seed)
        assert torch.equal(torch.get_rng_state(), before)
    again, other = (loaded(folders[seed])[0].state_dict() for seed in (0, 1))
    assert all(torch.equal(first[name], again[name]) for name in names)
    assert not any(torch.equal(first[name], other[name]) for name in names)
    assert first["mm_projector.linear.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert first["mm_projector.norm.weight"].unique().tolist() == [1.0]


def test_the_tokenizer_gets_the_image_token_and_the_embeddings_a_row_that_is_their_mean(assembled, released):
    model, processor = loaded(assembled)
    bare = AutoTokenizer.from_pretrained(released / "text")
    assert len(bare) == 259 and "<image>" not in bare.get_vocab()
    assert model.config.image_token_id == processor.image_token_id == 259
    table = model.get_input_embeddings().weight
    assert table.shape[0] == model.config.text_config.vocab_size == parts.ROWS == 260  # a spare row was there
    assert processor.tokenizer.pad_token == "</s>"
    assert (model.config.bos_token_id, model.config.eos_token_id) == (0, 1)


def test_new_rows_are_the_mean_of_the_old_ones_which_stay(released):
    model = AutoModelForCausalLM.from_pretrained(released / "text")
    before = [copy.deepcopy(one.weight) for one in (model.get_input_embeddings(), model.get_output_embeddings())]
    make_room(model, 260)
    assert model.get_input_embeddings().weight.shape[0] == 260
    make_room(model, 261)
    after = [one.weight for one in (model.get_input_embeddings(), model.get_output_embeddings())]
    for old, new in zip(before, after, strict=True):
        assert new.shape == (320, 32)  # the next multiple of 64
        assert torch.equal(new[:260], old)
        torch.testing.assert_close(new[260:], old.mean(0).expand(60, -1))
    assert model.config.vocab_size == 320


def test_the_words_before_questions_and_answers_hold_no_special_token(assembled):
    processor = loaded(assembled)[1]
    special = set(processor.tokenizer.all_special_ids)
    for words in (processor.user, processor.assistant):
        assert words and not special & set(processor._ids(words))


@pytest.mark.parametrize("name", parts.TEXTS)
@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
def test_language_models_of_every_kind_are_taken_in_both_forms(released, tmp_path, name, binary):
    parts.text(tmp_path / "text", name, binary=binary)
    assert len(list((tmp_path / "text").glob("*.bin" if binary else "*.safetensors"))) > 1
    found = assemble(tmp_path / "model", released / "vit", released / "cnn", tmp_path / "text", 64, "float32")
    assert found.notes == ()
    model, processor = loaded(tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "text")
    assert same(model.language_model, theirs)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == theirs.config.tie_word_embeddings == (name != "llama")
    assert model.generate(**processor(np.zeros((9, 9, 3), np.uint8), "What?"), max_new_tokens=2).shape[0] == 1


def test_weights_that_have_no_place_are_told(released, tmp_path):
    text = shutil.copytree(released / "text", tmp_path / "text")
    config = json.loads((text / "config.json").read_text())
    (text / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    (note,) = assemble(tmp_path / "model", released / "vit", released / "cnn", text, 64).notes
    assert "9 weights of the language model have no place" in note and "model.layers.1.input_layernorm.weight" in note


def test_an_encoder_that_says_nothing_of_its_pixels_gets_those_of_its_kind(released, tmp_path):
    siglip = parts.vit(tmp_path / "siglip", "siglip")
    (siglip / "preprocessor_config.json").unlink()
    (note,) = assemble(tmp_path / "model", siglip, released / "cnn", released / "text", 64).notes
    assert "ViT says nothing of its pixels" in note and "0.5" in note
    assert loaded(tmp_path / "model")[1].image_std == [0.5] * 3


def test_pixels_are_found_in_the_file_of_a_whole_processor_too(released, tmp_path):
    siglip = parts.vit(tmp_path / "siglip", "siglip")
    pixels = json.loads((siglip / "preprocessor_config.json").read_text()) | {"image_mean": [0.1, 0.2, 0.3]}
    (siglip / "preprocessor_config.json").unlink()
    (siglip / "processor_config.json").write_text(json.dumps({"image_processor": pixels}))
    assert assemble(tmp_path / "model", siglip, released / "cnn", released / "text", 64).notes == ()
    assert loaded(tmp_path / "model")[1].image_mean == [0.1, 0.2, 0.3]


def test_large_models_are_written_in_several_files_with_nothing_else_beside(released, tmp_path):
    assemble(tmp_path / "a" / "model", released / "vit", released / "cnn", released / "text", 64, shard="100KB")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]
    assert len(list((tmp_path / "a" / "model").glob("model-*.safetensors"))) > 2
    assert same(
        loaded(tmp_path / "a" / "model")[0].vision_encoder.vit,
        AutoModel.from_pretrained(released / "vit", dtype="bfloat16"),
    )


# --- ConvNeXts of open_clip --------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_every_stage_of_a_convnext_of_open_clip_is_that_of_a_plain_one_by_timms_names(released, tmp_path, safe):
    trunk = parts.randomise(parts.TimmConvNext(), 5)
    cnn = parts.open_clip(tmp_path / "cnn", trunk, safe)
    assemble(tmp_path / "model", released / "vit", cnn, released / "text", 64, "float32")
    encoder = loaded(tmp_path / "model")[0].vision_encoder
    assert encoder.cnn.config.hidden_sizes == [16, 24, 32, 40] and encoder.cnn.config.depths == [1, 2, 3, 1]
    pixels = noise(64)
    with torch.no_grad():
        ours = encoder.cnn(pixels, output_hidden_states=True).hidden_states[1:]
        theirs = trunk(pixels)
    assert [tuple(one.shape[1:]) for one in theirs] == [(16, 16, 16), (24, 8, 8), (32, 4, 4), (40, 2, 2)]
    for one, other in zip(ours, theirs, strict=True):
        assert other.std() > 0.1
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_names_of_timm_are_names_of_transformers():
    assert renamed("stages.2.blocks.26.mlp.fc1.weight") == "encoder.stages.2.layers.26.pwconv1.weight"
    assert renamed("stages.0.blocks.0.gamma") == "encoder.stages.0.layers.0.layer_scale_parameter"
    assert renamed("stages.1.blocks.0.norm.bias") == "encoder.stages.1.layers.0.layernorm.bias"
    assert renamed("stages.3.downsample.1.weight") == "encoder.stages.3.downsampling_layer.1.weight"
    assert renamed("stem.1.weight") == "embeddings.layernorm.weight"
    assert renamed("head.norm.weight") == "layernorm.weight"


def test_weights_that_are_missing_left_over_or_of_another_shape_are_all_told(tmp_path):
    cnn = parts.open_clip(tmp_path / "cnn")
    file = cnn / "open_clip_model.safetensors"
    state = load_file(file)
    state["visual.trunk.stages.0.blocks.0.mlp.grn.weight"] = torch.ones(64)
    state["visual.trunk.stem.0.weight"] = torch.ones(16, 3, 2, 2)
    del state["visual.trunk.stages.1.blocks.1.gamma"]
    save_file(state, file)
    with pytest.raises(EarthGPTError) as told:
        read_release(str(cnn))
    assert "1 missing: encoder.stages.1.layers.1.layer_scale_parameter" in str(told.value)
    assert "1 left over: encoder.stages.0.layers.0.mlp.grn.weight" in str(told.value)
    assert "1 of another shape: embeddings.patch_embeddings.weight" in str(told.value)


def test_a_convnext_whose_norms_transformers_cannot_compute_is_refused(tmp_path):
    with pytest.raises(EarthGPTError, match="convnext_xxlarge"):
        read_release(str(parts.open_clip(tmp_path / "cnn", name="convnext_xxlarge")))


def test_a_folder_of_transformers_is_no_release_of_open_clip(released):
    assert read_release(str(released / "vit")) is None


# --- encoders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("name", parts.VITS)
def test_the_grid_of_every_vit_is_its_layers_without_class_and_registers(released, tmp_path, name, side):
    vit = parts.vit(tmp_path / "vit", name)
    before = parts.VITS[name]()[1]
    assemble(tmp_path / "model", vit, released / "cnn", released / "text", side, "float32")
    model, _ = loaded(tmp_path / "model")
    assert model.config.vit_layers == [1, 2, 3]
    encoder = model.vision_encoder
    layers = next(one for one in encoder.vit.modules() if isinstance(one, torch.nn.ModuleList))
    seen, hooks = [], []
    for layer in layers:
        hooks.append(layer.register_forward_hook(lambda module, args, output: seen.append(output)))
    with torch.no_grad():
        features = encoder(noise(side))
        norm = getattr(encoder.vit, encoder.norm_name)
        expected = torch.cat([norm(one)[:, before:] for one in seen], dim=-1)
    assert len(seen) == 3
    assert expected.shape == (2, (side // 16) ** 2, 96)
    torch.testing.assert_close(features[..., :96], expected)


@pytest.mark.parametrize("name", parts.VITS)
def test_every_vit_is_taken_whole_and_without_what_pools_its_grid(released, tmp_path, name):
    vit = parts.vit(tmp_path / "vit", name)
    assemble(tmp_path / "model", vit, released / "cnn", released / "text", 64, "float32")
    ours = loaded(tmp_path / "model")[0].vision_encoder.vit
    whole = AutoModel.from_pretrained(vit)
    assert same(ours, without_pooling(getattr(whole, "vision_model", whole)))
    assert not [key for key in ours.state_dict() if key.startswith(("pooler", "head"))]


def test_positions_of_an_encoder_for_another_size_are_interpolated():
    """A SigLIP for 64 px that sees 96 px is one for 96 px whose table was enlarged."""
    small = parts.randomise(parts.VITS["siglip"]()[0], 1).vision_model
    config = copy.deepcopy(small.config)
    config.image_size = 96
    large = AutoModel.from_config(config).eval()
    state = small.state_dict()
    table = state["embeddings.position_embedding.weight"].T.reshape(1, 32, 4, 4)
    table = torch.nn.functional.interpolate(table, size=(6, 6), mode="bicubic", align_corners=False)
    state["embeddings.position_embedding.weight"] = table.reshape(32, 36).T
    large.load_state_dict(state)
    with torch.no_grad():
        ours = small(noise(96), interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(ours, large(noise(96)).last_hidden_state)


@pytest.mark.parametrize("name", parts.CNNS)
def test_the_stages_of_every_cnn_stand_behind_the_vit(released, tmp_path, name):
    cnn = parts.cnn(tmp_path / "cnn", name)
    assemble(tmp_path / "model", released / "vit", cnn, released / "text", 64, "float32")
    encoder = loaded(tmp_path / "model")[0].vision_encoder
    assert same(encoder.cnn, AutoModel.from_pretrained(cnn))
    with torch.no_grad():
        features = encoder(noise(64))
        stages = encoder.cnn(noise(64), output_hidden_states=True).hidden_states[1:]
    assert [one.shape[1] for one in stages] == [16, 16, 32, 32]
    assert features.shape == (2, 16, 96 + 96)
    third = stages[2].flatten(2).transpose(1, 2)  # of 4 x 4 cells, as the grid
    torch.testing.assert_close(features[..., 128:160], third, rtol=1e-4, atol=1e-4)


def test_pixels_are_normalised_anew_where_the_encoders_differ(config):
    """White is 1; normalised by 0.5 and 0.5 it is 1 too; a mean of 0.25 and a deviation of 0.25 make it 3."""
    values = copy.deepcopy(config.to_dict()) | {"vit_mean": [0.5] * 3, "vit_std": [0.5] * 3}
    encoder = VisionEncoder(EarthGPTConfig(**values | {"cnn_mean": [0.25, 0.5, 0.0], "cnn_std": [0.25, 0.5, 1.0]}))
    white, black = encoder.pixels_for_cnn(torch.ones(1, 3, 1, 1)), encoder.pixels_for_cnn(-torch.ones(1, 3, 1, 1))
    assert white.flatten().tolist() == [3.0, 1.0, 1.0]
    assert black.flatten().tolist() == [-1.0, -1.0, 0.0]
    alike = VisionEncoder(EarthGPTConfig(**values | {"cnn_mean": [0.5] * 3, "cnn_std": [0.5] * 3}))
    pixels = torch.ones(1, 3, 1, 1)
    assert alike.pixels_for_cnn(pixels) is pixels


def test_the_cnn_sees_the_pixels_that_it_knows(assembled):
    encoder = loaded(assembled)[0].vision_encoder
    seen = []
    encoder.cnn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        encoder(noise(64))
    torch.testing.assert_close(seen[0], encoder.pixels_for_cnn(noise(64)))
    assert not torch.allclose(seen[0], noise(64), atol=0.01)


# --- presets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "grid"), [(224, 16), (336, 24), (448, 32)])
@pytest.mark.parametrize(
    ("name", "language_model"),
    [("earthgpt-1b", 1_100_048_384), ("earthgpt-7b", 6_738_415_616), ("earthgpt-13b", 13_015_864_320)],
)
def test_presets_have_the_sizes_of_their_parts(name, language_model, side, grid):
    model = on_meta(configuration(name, side))
    size = size_of(model)
    assert size.parameters["vit"] == 304_368_640  # DINOv2 ViT-L/14
    assert size.parameters["cnn"] == 196_230_336  # ConvNeXt-L
    assert size.parameters["language_model"] == language_model
    assert size.visual_width == 4 * 1024 + 192 + 384 + 768 + 1536
    width = model.config.text_config.hidden_size
    assert size.parameters["projector"] == size.visual_width * width + 5 * width  # bias, norm, start and end
    assert size.parameters["total"] == sum(count for part, count in size.parameters.items() if part != "total")
    assert (size.image_size, size.grid, size.tokens_per_image) == (side, grid, grid**2 + 2)
    with torch.no_grad():
        features = model.vision_encoder(torch.empty(1, 3, side, side, device="meta"))
    assert features.shape == (1, grid**2, size.visual_width)


def test_the_presets_are_made_for_three_image_sizes_and_the_largest_is_taken():
    assert set(PRESETS) == {"earthgpt-1b", "earthgpt-7b", "earthgpt-13b"} and IMAGE_SIZES == (224, 336, 448)
    assert configuration("earthgpt-7b").image_size == 448
    assert configuration("earthgpt-tiny").image_size == 224


# --- merging -----------------------------------------------------------------------------------------------------


def test_a_merged_model_answers_as_the_tuned_one_with_plain_layers(assembled, tmp_path):
    model, processor = loaded(assembled)
    model.add_bias_tuning()
    parts.randomise(model.language_model, 8)
    model.save_pretrained(tmp_path / "tuned")
    processor.save_pretrained(tmp_path / "tuned")
    assert merge(tmp_path / "tuned", tmp_path / "merged") == 14
    merged, other = loaded(tmp_path / "merged")
    assert not merged.config.bias_tuning
    assert not [one for one in merged.modules() if isinstance(one, BiasTunedLinear)]
    inputs = processor(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8), "What is this?")
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-4)
    assert same(merged.vision_encoder, model.vision_encoder)
    assert other.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_a_model_without_bias_tuning_is_not_merged(assembled, tmp_path):
    with pytest.raises(EarthGPTError, match="nothing to merge"):
        merge(assembled, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_dense_heads_stay_where_bias_tuning_is_merged(assembled, tmp_path):
    model, processor = loaded(assembled)
    model.add_dense_heads(Vocabulary(("sea", "port"), ("ship",)))
    model.add_bias_tuning()
    model.save_pretrained(tmp_path / "tuned")
    processor.save_pretrained(tmp_path / "tuned")
    assert merge(tmp_path / "tuned", tmp_path / "merged") > 0
    merged, _ = loaded(tmp_path / "merged")
    assert same(merged.dense_heads, model.dense_heads) and not merged.config.bias_tuning


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "given", "says"),
    [
        ("vit", "NONE", "There is no folder NONE for the ViT"),
        ("vit", "TEXT", "is a llama; give a vision transformer"),
        ("vit", "CONVNEXT", "is a convnext; give a vision transformer"),
        ("cnn", "VIT", "is a dinov2; give a convolutional network"),
        ("cnn", "TEXT", "is a llama; give a convolutional network"),
        ("text", "VIT", "is a dinov2; give a causal language model"),
        ("text", "SIGLIP", "is a siglip; give a causal language model"),
        ("vit", "CNN", "Cannot read the ViT"),
        ("text", "EMPTY", "Cannot read the language model EMPTY"),
        ("vit", "NAFLEX", "cannot be the encoders"),
        ("vit", "someone/nothing", "Without a network, give a folder"),
        ("cnn", "someone/nothing", "Without a network, give a folder"),
        ("text", "someone/nothing", "Without a network, give a folder"),
    ],
)
def test_a_part_that_cannot_be_taken_is_told(released, tmp_path, monkeypatch, part, given, says):
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    places = {"VIT": released / "vit", "CNN": released / "cnn", "TEXT": released / "text"}
    for name in ("NONE", "EMPTY", "CONVNEXT", "SIGLIP", "NAFLEX"):
        places[name] = tmp_path / name
    if given == "EMPTY":
        places[given].mkdir()
    if given == "CONVNEXT":
        parts.cnn(places[given])
    if given == "SIGLIP":
        parts.vit(places[given], "siglip")
    if given == "NAFLEX":
        deep = {key: value for key, value in parts.DEEP.items() if key != "image_size"}
        Siglip2VisionModel(Siglip2VisionConfig(**deep, num_patches=16)).save_pretrained(places[given])
    chosen = {"vit": released / "vit", "cnn": released / "cnn", "text": released / "text"}
    chosen[part] = places.get(given, given)
    with pytest.raises(EarthGPTError) as told:
        assemble(tmp_path / "model", **chosen, image_size=64)
    assert says.replace(given, str(chosen[part])) in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "model").exists() and not (tmp_path / "model.new").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": 4}, r"lacks \d+ weights of its configuration: encoder.layer.3"),
        ({"mlp_ratio": 2}, r"not of the shape that its configuration says: encoder.layer.0.mlp.fc1"),
    ],
)
def test_weights_that_are_not_as_configured_are_told(released, tmp_path, change, says):
    vit = shutil.copytree(released / "vit", tmp_path / "vit")
    config = json.loads((vit / "config.json").read_text())
    (vit / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(EarthGPTError, match=says):
        assemble(tmp_path / "model", vit, released / "cnn", released / "text", 64)


@pytest.mark.parametrize("part", ["vit", "cnn", "text"])
def test_a_file_that_is_cut_off_is_told(released, tmp_path, part):
    folder = shutil.copytree(released, tmp_path / "parts")
    file = sorted((folder / part).glob("*.safetensors"))[-1]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EarthGPTError, match=f"Cannot read the .*{part}"):
        assemble(tmp_path / "model", folder / "vit", folder / "cnn", folder / "text", 64)


def test_a_shard_that_is_missing_is_told(released, tmp_path):
    text = shutil.copytree(released / "text", tmp_path / "text")
    sorted(text.glob("*.safetensors"))[0].unlink()
    with pytest.raises(EarthGPTError, match="Cannot read the language model"):
        assemble(tmp_path / "model", released / "vit", released / "cnn", text, 64)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"image_size": 70}, "70 px are no multiple of the ViT's 16 px; take 64 or 80"),
        ({"image_size": 8}, "take 16 or 32"),
        ({"image_size": 224}, "takes 198 places, but the language model has 192"),
        ({"dtype": "int8"}, "bfloat16, float16, float32; not 'int8'"),
    ],
)
def test_a_size_or_dtype_that_cannot_be_is_told(released, tmp_path, options, says):
    with pytest.raises(EarthGPTError, match=says):
        assemble(
            tmp_path / "model", released / "vit", released / "cnn", released / "text", **{"image_size": 64} | options
        )


def test_a_folder_that_exists_is_kept(released, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(EarthGPTError, match="exists"):
        assemble(tmp_path / "model", released / "vit", released / "cnn", released / "text", 64)
    assert list((tmp_path / "model").iterdir()) == []


def test_nothing_is_left_when_writing_fails(released, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EarthGPTProcessor, "save_pretrained", full)
    with pytest.raises(EarthGPTError, match=r"Cannot write .*No space left"):
        assemble(tmp_path / "model", released / "vit", released / "cnn", released / "text", 64)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_without_an_end_is_refused(released, tmp_path):
    text = shutil.copytree(released / "text", tmp_path / "text")
    description = json.loads((text / "tokenizer_config.json").read_text())
    del description["eos_token"]
    (text / "tokenizer_config.json").write_text(json.dumps(description))
    with pytest.raises(EarthGPTError, match="has no end token"):
        assemble(tmp_path / "model", released / "vit", released / "cnn", text, 64)
