"""A saved model in the hands of transformers alone: loaded with one import, and quantised."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from earthgpt.model.bias_tuning import BiasTunedLinear
from earthgpt.types import Conversation, EarthGPTError

torchao = pytest.mark.skipif(not importlib.util.find_spec("torchao"), reason="torchao is not installed")
quanto = pytest.mark.skipif(not importlib.util.find_spec("optimum"), reason="optimum-quanto is not installed")

KEPT = ["language_model.lm_head", "vision_encoder", "mm_projector"]  # as docs/serving.md has it
bitsandbytes = pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
# What docs/serving.md tells others to write.
SCRIPT = """
import sys, json
import earthgpt.model
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, image = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder)
inputs = processor(images=Image.open(image), text="What is this?")
written = model.generate(**inputs, max_new_tokens=6)
print(json.dumps([type(model).__name__, written[0].tolist()]))
"""


@pytest.fixture
def tuned(model):
    """The tiny model with bias tuning that matters."""
    model.add_bias_tuning()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith((".alpha", ".beta")):
                value += 0.3 * torch.randn(value.shape, generator=draw)
    return model


@pytest.fixture
def inputs(processor, squares):
    batch = processor.batch([Conversation.of(("a",), "What is this?")], squares[:1])
    return {name: batch[name] for name in ("input_ids", "pixel_values")}


def test_one_import_is_all_that_a_program_with_transformers_needs(model_folder, model, processor, squares, tmp_path):
    from PIL import Image

    Image.fromarray(squares[0]).save(tmp_path / "image.png")
    words = [sys.executable, "-c", SCRIPT, model_folder, tmp_path / "image.png"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    name, ids = json.loads(done.stdout.strip().splitlines()[-1])
    assert name == "EarthGPTForConditionalGeneration"
    assert ids == model.generate(**processor(images=squares[0], text="What is this?"), max_new_tokens=6)[0].tolist()


def test_without_that_import_transformers_does_not_know_the_model(model_folder):
    code = "import sys; from transformers import AutoConfig; AutoConfig.from_pretrained(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, model_folder], capture_output=True, text=True)
    assert done.returncode != 0 and "`earthgpt`" in done.stderr


# --- quantised ---------------------------------------------------------------------------------------------------


def test_weights_of_bias_tuning_that_find_no_place_are_an_error(tuned, tmp_path):
    tuned.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"bias_tuning": False}))
    with pytest.raises(EarthGPTError, match=r"leaves out \(28 weights\). Merge first"):  # 2 layers x 7 x 2
        AutoModelForImageTextToText.from_pretrained(tmp_path)


@torchao
def test_eight_bits_of_torchao_change_little_and_leave_the_output_layer(model, model_folder, inputs):
    loaded = AutoModelForImageTextToText.from_pretrained(model_folder, quantization_config=eight_bits()).eval()
    layer = loaded.language_model.model.layers[0].mlp.up_proj
    assert type(layer) is nn.Linear and type(layer.weight) is not nn.Parameter
    assert type(loaded.language_model.lm_head.weight) is nn.Parameter
    with torch.no_grad():
        difference = loaded(**inputs).logits - model(**inputs).logits
        scale = model(**inputs).logits.std()
    assert 0 < difference.abs().mean() < 0.05 * scale
    assert loaded.generate(**inputs, max_new_tokens=4, min_new_tokens=4).shape[1] == inputs["input_ids"].shape[1] + 4


@torchao
def test_a_model_of_eight_bits_is_not_saved_for_torchao_could_not_read_it(model_folder, tmp_path):
    loaded = AutoModelForImageTextToText.from_pretrained(model_folder, quantization_config=eight_bits())
    with pytest.raises(EarthGPTError, match="quantise as you load it"):
        loaded.save_pretrained(tmp_path / "quantised")
    assert not (tmp_path / "quantised").exists()


@torchao
def test_modules_can_be_kept_as_they_are(model_folder):
    loaded = AutoModelForImageTextToText.from_pretrained(model_folder, quantization_config=eight_bits(KEPT))
    assert type(loaded.vision_encoder.vit.encoder.layer[0].mlp.fc1.weight) is nn.Parameter
    assert type(loaded.language_model.model.layers[0].mlp.up_proj.weight) is not nn.Parameter


@torchao
def test_torchao_keeps_bias_tuning(tuned, inputs, tmp_path):
    tuned.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, quantization_config=eight_bits()).eval()
    layer = loaded.language_model.model.layers[0].mlp.up_proj
    assert type(layer) is BiasTunedLinear
    assert torch.equal(layer.alpha, tuned.language_model.model.layers[0].mlp.up_proj.alpha)
    with torch.no_grad():
        wanted = tuned(**inputs).logits
        assert (loaded(**inputs).logits - wanted).abs().mean() < 0.05 * wanted.std()


@bitsandbytes
def test_eight_bits_of_bitsandbytes_run_the_whole_model(model, model_folder, inputs):
    from transformers import BitsAndBytesConfig

    options = BitsAndBytesConfig(load_in_8bit=True)
    loaded = AutoModelForImageTextToText.from_pretrained(model_folder, quantization_config=options).eval()
    for layer in (loaded.mm_projector.linear, loaded.language_model.model.layers[0].mlp.up_proj):
        assert layer.weight.dtype == torch.int8
    with torch.no_grad():
        wanted = model(**inputs).logits
        assert (loaded(**inputs).logits - wanted).abs().mean() < 0.05 * wanted.std()


@quanto
def test_quanto_would_lose_bias_tuning_and_is_refused(tuned, tmp_path):
    from transformers import QuantoConfig

    tuned.save_pretrained(tmp_path)
    with pytest.raises(EarthGPTError, match="Merge first"):
        AutoModelForImageTextToText.from_pretrained(tmp_path, quantization_config=QuantoConfig(weights="int8"))


def eight_bits(kept=None):
    """Weights of 8 bits, activations as they are. kept: modules that stay as they are; None is the output layer."""
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=kept)
