"""Parts of a model as their owners release them, tiny and with random weights, in the true form on disk."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2Model,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipModel,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
ROWS = 260  # tokens of the language models: <s>, </s>, <unk>, 256 bytes and one spare
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 16, "image_size": 64}
DEEP = SMALL | {"intermediate_size": 64}
WORDS = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 192, "initializer_range": 0.2,
    "vocab_size": ROWS, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
WIDTHS = {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 2, 1, 1]}

# Name -> (model, tokens before the grid: class and registers).
VITS = {
    "dinov2": lambda: (Dinov2Model(Dinov2Config(**SMALL)), 1),
    "dinov2_with_registers": lambda: (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)),
        5,
    ),
    "dinov3_vit": lambda: (DINOv3ViTModel(DINOv3ViTConfig(**DEEP, num_register_tokens=4)), 5),
    "clip": lambda: (CLIPModel(CLIPConfig(text_config=WORDS, vision_config=DEEP)), 1),
    "siglip": lambda: (SiglipModel(SiglipConfig(text_config=WORDS, vision_config=DEEP)), 0),
    "vit": lambda: (ViTForImageClassification(ViTConfig(**DEEP)), 1),
}
CNNS = {
    "convnext": lambda: ConvNextForImageClassification(ConvNextConfig(**WIDTHS)),
    "convnextv2": lambda: ConvNextV2Model(ConvNextV2Config(**WIDTHS)),
    "resnet": lambda: ResNetModel(ResNetConfig(**WIDTHS, embedding_size=16, layer_type="basic")),
}
TEXTS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**TEXT)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**TEXT, head_dim=8, tie_word_embeddings=True)),
    "smollm3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**TEXT)),
}


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random values everywhere, so that no part can be swapped, lost or left at its start without a difference."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=draw))
    return model.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, without a padding token and without one for images, as LLaMA has it."""
    words = ["<s>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_only = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_only, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=192
    )


def save(folder: Path, model: nn.Module, shard: str = "20KB", binary: bool = False) -> Path:
    """In several files, as large models are; binary: as pickles with an index, as the first LLaMA-2 files are."""
    model.save_pretrained(folder, max_shard_size=shard)
    if binary:
        for file in folder.glob("*.safetensors"):
            torch.save(load_file(file), folder / _binary(file.name))
            file.unlink()
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        (folder / "model.safetensors.index.json").unlink()
        index["weight_map"] = {key: _binary(file) for key, file in index["weight_map"].items()}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def _binary(name: str) -> str:
    """model-00001-of-00002.safetensors as pytorch_model-00001-of-00002.bin."""
    return name.replace("model", "pytorch_model").replace("safetensors", "bin")


def vit(folder: Path, name: str = "dinov2", **options) -> Path:
    """A vision transformer, or a whole CLIP or SigLIP, with its image processor's file."""
    save(folder, randomise(VITS[name]()[0], 1), **options)
    pixels = {"siglip": ([0.5] * 3, [0.5] * 3), "clip": (CLIP_MEAN, CLIP_STD)}
    mean, std = pixels.get(name, ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    return folder


def cnn(folder: Path, name: str = "convnext", **options) -> Path:
    """A convolutional network in the form of transformers, with its image processor's file."""
    save(folder, randomise(CNNS[name](), 2), **options)
    pixels = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def text(folder: Path, name: str = "llama", **options) -> Path:
    """A language model with its tokenizer."""
    save(folder, randomise(TEXTS[name](), 3), **options)
    tokenizer().save_pretrained(folder)
    return folder


# --- open_clip ---------------------------------------------------------------------------------------------------


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of [n, D, h, w], as timm has it."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A ConvNeXt block by timm's names."""

    def __init__(self, width):
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        y = self.gamma * self.mlp["fc2"](functional.gelu(self.mlp["fc1"](y)))
        return x + y.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Downsampling, but in the first stage, and blocks."""

    def __init__(self, before, width, depth):
        super().__init__()
        first = before == 0
        self.downsample = (
            nn.Identity() if first else nn.Sequential(LayerNorm2d(before, eps=1e-6), nn.Conv2d(before, width, 2, 2))
        )
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class TimmConvNext(nn.Module):
    """ConvNeXt (Liu et al., 2022) in plain torch, by the names that timm and so open_clip give its weights."""

    def __init__(self, widths=(16, 24, 32, 40), depths=(1, 2, 3, 1)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), LayerNorm2d(widths[0], eps=1e-6))
        self.stages = nn.ModuleList(Stage(*sizes) for sizes in zip((0, *widths), widths, depths, strict=False))
        self.head = nn.ModuleDict({"norm": LayerNorm2d(widths[-1], eps=1e-6)})

    def forward(self, pixels):
        """The map of every stage."""
        maps, x = [], self.stem(pixels)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def open_clip(folder: Path, trunk: nn.Module | None = None, safe: bool = True, name: str = "convnext_large") -> Path:
    """A CLIP as open_clip releases it: image trunk and projection, text transformer, configuration."""
    trunk = randomise(TimmConvNext(), 4) if trunk is None else trunk
    state = {f"visual.trunk.{key}": value for key, value in trunk.state_dict().items()}
    state |= {
        "visual.head.mlp.fc1.weight": torch.randn(8, 40),
        "visual.head.mlp.fc2.weight": torch.randn(4, 8),
        "text_projection": torch.randn(4, 4),
        "transformer.resblocks.0.ln_1.weight": torch.randn(4),
        "logit_scale": torch.tensor(4.6),
    }
    folder.mkdir(parents=True)
    if safe:
        save_file(state, folder / "open_clip_model.safetensors")
    else:
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    vision = {"timm_model_name": name, "timm_pool": "", "timm_proj": "mlp", "image_size": 320}
    description = {
        "model_cfg": {"embed_dim": 768, "vision_cfg": vision, "text_cfg": {"context_length": 77}},
        "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    return folder
