"""A model of toy size with random weights, made once: it says nonsense, but by the same rules as any other."""

import copy
import io
import os
import sys
from pathlib import Path

# Models of toy size are no work for two threads: they only wait for each other, and for long on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("house", deadline=None)  # a busy machine is no failure
settings.load_profile("house")

SENTENCES = (
    "Is there a ship in the image? Answer the question using a single word or phrase.",
    "There are two ships [0.123,0.456,0.789,0.900;0.100,0.200,0.300,0.400] in the image.",
    "An aerial image of a harbor with three ships and a bridge.",
    "What is the category of this remote sensing image? harbor, airport, parking lot",
)
SQUARE = 64  # side of the tiny model's image: a grid of 4 x 4 tokens, an image start and an image end


@pytest.fixture(scope="session")
def processor():
    """The processor of the tiny model, with a tokenizer learned from four sentences."""
    from earthgpt.model import EarthGPTProcessor
    from earthgpt.model.tokenization import train_tokenizer

    tokenizer = train_tokenizer(SENTENCES, 512)
    return EarthGPTProcessor(tokenizer, SQUARE, 16, user="<|user|>", assistant="<|assistant|>")


@pytest.fixture(scope="session")
def config(processor):
    """The configuration of the tiny model; the wide random start makes every part matter to the outcome."""
    from transformers import Dinov2Config, LlamaConfig, ResNetConfig

    from earthgpt.model import EarthGPTConfig

    tokenizer = processor.tokenizer
    return EarthGPTConfig(
        Dinov2Config(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            patch_size=16,
            image_size=SQUARE,
            initializer_range=0.2,
        ),
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], layer_type="basic"),
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=192,
            initializer_range=0.2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_size=SQUARE,
        image_token_id=processor.image_token_id,
        initializer_range=0.2,
    )


@pytest.fixture(scope="session")
def shared_model(config):
    """The tiny model, made once; take ``model`` where a test changes it."""
    import torch

    from earthgpt.model import EarthGPTForConditionalGeneration

    torch.manual_seed(0)
    return EarthGPTForConditionalGeneration(copy.deepcopy(config)).eval()


@pytest.fixture
def model(shared_model):
    """The tiny model with random weights, a copy for each test."""
    return copy.deepcopy(shared_model)


@pytest.fixture(scope="session")
def model_folder(shared_model, processor, tmp_path_factory):
    """The tiny model and its processor, saved."""
    folder = tmp_path_factory.mktemp("models") / "tiny-random"
    copy.deepcopy(shared_model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def squares():
    """Three squares of noise, uint8 [S, S, 3]."""
    return list(np.random.default_rng(0).integers(0, 256, (3, SQUARE, SQUARE, 3), np.uint8))


# --- commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the program in this process; returns (exit code, standard output, standard error)."""
    from earthgpt import cli

    def call(*words, stdin=""):
        monkeypatch.setattr(sys, "argv", ["earthgpt", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        found = capsys.readouterr()
        return stopped.value.code, found.out, found.err

    return call


@pytest.fixture
def harbor(tmp_path) -> Path:
    """A picture 200 pixels wide and 100 high."""
    path = tmp_path / "harbor.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def says(monkeypatch):
    """Makes the model say a text, each character a token with probability 0.5."""
    from earthgpt import assistant, scenes
    from earthgpt.generation import Answer

    def script(text):
        answer = Answer(text, tuple((i, i + 1) for i in range(len(text))), (0.5,) * len(text), True)
        for module in (assistant, scenes):
            monkeypatch.setattr(
                module, "generate", lambda model, processor, asked, squares, **rest: [answer] * len(asked)
            )

    return script
