"""vLLM says what transformers says, token for token.

Only where ``EARTHGPT_VLLM_PYTHON`` names the interpreter of an environment that tests/vllm_environment.sh made.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import parts
import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from earthgpt.model.assemble import assemble, merge
from earthgpt.model.loading import load, locate

PYTHON = os.environ.get("EARTHGPT_VLLM_PYTHON")
ENVIRONMENT = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
QUESTIONS = (
    "What is this?",
    "How many ships are there in the image?",
    "Please provide a one-sentence caption for the provided remote sensing image in details.",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="EARTHGPT_VLLM_PYTHON names no environment with vLLM; tests/vllm_environment.sh makes one"
    ),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two images, neither of them square, one of them grey."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (6, 9, 3), np.uint8))
    coarse.resize((270, 180), Image.Resampling.BICUBIC).save(folder / "coarse.png")
    Image.fromarray(draw.integers(0, 256, (150, 100), np.uint8)).save(folder / "noise.png")
    return [folder / "coarse.png", folder / "noise.png"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A model of public parts, tiny and random, with bias tuning: registers in its ViT, two kinds of pixels."""
    folder = tmp_path_factory.mktemp("models")
    # vLLM's attention on the CPU knows heads of 32 numbers and more.
    wide = parts.TEXT | {"hidden_size": 128}
    language = parts.randomise(LlamaForCausalLM(LlamaConfig(**wide)), 3)
    parts.save(folder / "text", language)
    parts.tokenizer().save_pretrained(folder / "text")
    vit, cnn = parts.vit(folder / "vit", "dinov2_with_registers"), parts.open_clip(folder / "cnn")
    assemble(folder / "plain", str(vit), str(cnn), str(folder / "text"), image_size=96, dtype="float32")
    model, processor = load(folder / "plain")
    model.add_bias_tuning()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith((".alpha", ".beta")):
                value += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(folder / "tuned")
    processor.save_pretrained(folder / "tuned")
    return folder / "tuned"


def run(*words, timeout_s=300):
    """A command in vLLM's environment: its exit code and all it printed."""
    done = subprocess.run(
        [PYTHON, *map(str, words)], capture_output=True, text=True, timeout=timeout_s, env=ENVIRONMENT
    )
    return done.returncode, done.stdout + done.stderr


def chat(images, question):
    """A chat as transformers has it."""
    return [{"role": "user", "content": [*({"type": "image", "path": str(one)} for one in images),
                                         {"type": "text", "text": question}]}]  # fmt: skip


def compare(name, files, tmp_path):
    """Asks both engines about each image and about both together; returns the answers, which are equal."""
    model, processor = load(name)
    wanted, requests = [], []
    for images in (files[:1], files[1:], files):
        for question in QUESTIONS:
            inputs = processor.apply_chat_template(chat(images, question), tokenize=True)
            start = inputs["input_ids"].shape[1]
            room = model.config.text_config.max_position_embeddings - start
            ids = model.generate(**inputs, max_new_tokens=min(24, room), do_sample=False)[0].tolist()
            wanted.append({"prompt": ids[:start], "answer": ids[start:]})
            prompt = processor.apply_chat_template(chat(images, question))
            ids = processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            requests.append({"images": list(map(str, images)), "prompt": ids})
    (tmp_path / "chats.json").write_text(json.dumps(requests))
    code, printed = run(
        Path(__file__).with_name("vllm_answers.py"), locate(name), tmp_path / "chats.json", tmp_path / "answers.json"
    )
    assert code == 0, printed
    found = json.loads((tmp_path / "answers.json").read_text())
    assert found == wanted
    return [one["answer"] for one in wanted]


def test_the_default_model_gives_the_same_tokens(files, tmp_path):
    answers = compare("earthgpt-tiny", files, tmp_path)
    assert len({tuple(one) for one in answers}) > 3, "answers that are all the same would prove little"


def test_a_merged_model_of_public_parts_gives_the_same_tokens(tuned, files, tmp_path):
    assert merge(tuned, tmp_path / "merged") == 2 * 7
    answers = compare(tmp_path / "merged", files, tmp_path)
    assert len({tuple(one) for one in answers}) == len(answers)


@pytest.mark.parametrize("kind", ["bias tuning", "LoRA inside"])
def test_a_model_that_is_not_merged_is_refused_with_the_way_out(tuned, tmp_path, kind):
    if kind == "LoRA inside":  # its configuration is enough
        tuned = shutil.copytree(tuned, tmp_path / "lora")
        config = json.loads((tuned / "config.json").read_text())
        lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": []}
        (tuned / "config.json").write_text(json.dumps(config | {"bias_tuning": False, "lora": lora}))
    (tmp_path / "chats.json").write_text("[]")
    code, printed = run(
        Path(__file__).with_name("vllm_answers.py"), tuned, tmp_path / "chats.json", tmp_path / "answers.json"
    )
    assert code != 0
    assert f"has {kind}" in printed
    assert f"Merge first: earthgpt models merge {tuned} -o FOLDER" in printed.strip().splitlines()[-1]


def test_the_server_of_vllm_answers_over_http(files, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    words = ["-m", "vllm.entrypoints.openai.api_server", "--model", locate("earthgpt-tiny"), "--dtype", "float32"]
    words += ["--served-model-name", "earthgpt-tiny", "--enforce-eager", "--host", "127.0.0.1"]
    words += ["--port", address.rpartition(":")[2]]
    log = tmp_path / "server.log"
    with log.open("w") as printed:
        server = subprocess.Popen([PYTHON, *words], stdout=printed, stderr=subprocess.STDOUT, env=ENVIRONMENT)
    try:
        wait_for(f"{address}/health", server, log)
        model, processor = load("earthgpt-tiny")
        for question in QUESTIONS:
            image = "data:image/png;base64," + base64.b64encode(files[0].read_bytes()).decode()
            content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": image}}]
            request = {"model": "earthgpt-tiny", "temperature": 0, "max_tokens": 24,
                       "messages": [{"role": "user", "content": content}]}  # fmt: skip
            found = post(f"{address}/v1/chat/completions", request)
            inputs = processor.apply_chat_template(chat(files[:1], question), tokenize=True)
            start = inputs["input_ids"].shape[1]
            ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, start:]
            assert found["choices"][0]["message"]["content"] == processor.tokenizer.decode(
                ids, skip_special_tokens=True
            )
            assert found["usage"]["prompt_tokens"] == start
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address, server, log, timeout_s=180):
    """Returns when the server is up."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):  # not up yet
            time.sleep(0.5)
    raise AssertionError(f"The server did not start in {timeout_s} s:\n{log.read_text()}")


def post(address, value):
    """JSON there and back."""
    request = urllib.request.Request(address, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)
