"""One answer, token by token, on the processor: the compiled passes beside torch's and transformers' ``generate``.

    python benchmarks/decoding.py

A Llama of 1024 x 20 with 32,000 words (0.29 B in its layers and output layer) and random weights, in bfloat16, and with
its layers in int8 by torchao where that is installed. Its output layer is made so that a token calls for another, which
is well before the others but has a probability of few percent: so rounding does not change the tokens, while whatever
changes what the layers make of them changes the probabilities. Both are compared: all ways say the same, or the program
ends.

A way's tokens a second are those behind the first: 32 take what they take, less what one takes. For each token all
weights are read once but those of the embeddings. How fast memory is read is measured in the same rounds: the faster of
a sum and a scalar product of 512 MiB, in the same large pages that compiled passes have their weights in. Two threads.
"""

from __future__ import annotations

import argparse
import importlib.util
from functools import partial
from importlib import metadata

from guard import Timing, in_turn
from stand_ins import Talk, Words, call_for_others
from table import Row

NEW, BOS, EOS, PAD, IMAGE = 32, 1, 3, 2, 31_999
ASKED = list(range(100, 115))
WAYS = ("generate", "plain", "compiled")
MOST_APART = 0.1  # of probabilities, relative, between two ways in bfloat16


def main() -> None:
    """Prints a line for each way and type of weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=30, help="seconds to wait for rounds that nobody disturbs")
    arguments = parser.parse_args()
    print("| weights | way | tokens/s | GB/s of weights | of what is read | x generate | same | clean |")
    print("|---|---|---:|---:|---:|---:|---|---|")
    for kind in kinds():
        found = Found(kind, arguments.rounds, arguments.patience)
        for way in WAYS:
            rate, read = found.rate(way), found.rate(way) * found.bytes
            cells = f"{rate:.1f} | {read / 1e9:.1f} | {read / found.memory:.0%} | {rate / found.rate('generate'):.2f}"
            print(f"| {kind} | {way} | {cells} | {found.same} | {found.samples(way)} |", flush=True)
        print(f"Memory was read at {found.memory / 1e9:.1f} GB/s ({found.timings['sum'].samples} clean).", flush=True)


def rows(quick: bool = False) -> list[Row]:
    """Compiled beside ``generate``, and beside what memory gives, for each type of weights."""
    rival, made = f"transformers {metadata.version('transformers')} generate", []
    for kind in kinds():
        found = Found(kind, 1 if quick else 3, 0 if quick else 30)
        rate, check = found.rate("compiled"), found.same
        theirs, floor = found.rate("generate"), found.memory / found.bytes
        clean = found.samples("compiled")
        made += [
            Row("decoding", f"0.3 B, {kind}", "tokens/s", rate, theirs, rival, 2.5, floor, check, clean),
            Row("decoding", f"weights of 0.3 B, {kind}", "GB/s", rate * found.bytes / 1e9, found.memory / 1e9,
                "memory read by torch", 0.8, found.memory / 1e9, check, clean),
        ]  # fmt: skip
    return made


def kinds() -> list[str]:
    """The types of weights that can be measured here."""
    return ["bfloat16", *(["int8"] if importlib.util.find_spec("torchao") else [])]


class Found:
    """Timings of all ways with one type of weights. bytes: of weights, for a token. memory: bytes a second that are
    read. same: what was compared. Raises ValueError where the ways do not say the same."""

    def __init__(self, kind: str, rounds: int, patience_s: float):
        import torch

        from earthgpt.model.compiled import enlarge_pages

        torch.set_num_threads(2)
        model = random_model(kind)
        head = model.get_output_embeddings()
        layers = [one for one in model.language_model.modules() if type(one) is torch.nn.Linear]
        self.bytes = sum(
            one.weight.numel() * (1 if kind == "int8" and one is not head else head.weight.element_size())
            for one in layers
        )
        values = torch.ones(2**27)
        enlarge_pages(values)
        half = values.split(2**26)
        ways = {"sum": values.sum, "product": partial(torch.dot, *half)}
        for way in WAYS:
            for new in (1, NEW):
                ways[f"{way} {new}"] = partial(say, model, way, new)
        self.timings: dict[str, Timing] = in_turn(ways, rounds, patience_s)
        self.memory = values.nbytes / min(self.timings[one].seconds for one in ("sum", "product"))
        self.same = compare({way: self.timings[f"{way} {NEW}"].result for way in WAYS})

    def rate(self, way: str) -> float:
        """Tokens a second, behind the first."""
        return (NEW - 1) / (self.timings[f"{way} {NEW}"].seconds - self.timings[f"{way} 1"].seconds)

    def samples(self, way: str) -> str:
        """How many of its samples nobody disturbed."""
        return self.timings[f"{way} {NEW}"].samples


def compare(said: dict[str, tuple[list[int], list[float]]]) -> str:
    """What is the same of tokens and their probabilities. Raises ValueError where they are not."""
    tokens, likely = said["generate"]
    apart = 0.0
    for way, (others, found) in said.items():
        if others != tokens:
            raise ValueError(f"{way} says {others}, and generate {tokens}.")
        apart = max([apart, *(abs(one - other) / other for one, other in zip(found, likely, strict=True))])
    if apart > MOST_APART:
        raise ValueError(f"Probabilities are apart by {apart:.2f} of themselves.")
    return f"{len(tokens)} tokens, probabilities to {apart:.1%}"


def say(model, way: str, new: int) -> tuple[list[int], list[float]]:
    """The tokens of an answer, and their probabilities."""
    import torch

    from earthgpt import generation

    if way == "generate":
        ids = torch.tensor([[BOS, *ASKED]])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=PAD,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        tokens = out.sequences[0, ids.shape[1] :].tolist()
        return tokens, [float(one[0].float().softmax(-1)[token]) for one, token in zip(out.logits, tokens, strict=True)]
    compiled, model.compiled = model.compiled, model.compiled if way == "compiled" else None
    (answer,) = generation.generate(model, Words(IMAGE, 18, BOS, PAD, EOS), [Talk((), ASKED)], [], new)
    model.compiled = compiled
    return [int(word) for word in answer.text.split()], list(answer.probabilities)


def random_model(kind: str):
    """An EarthGPT with small encoders, which are not asked."""
    import torch
    from transformers import Dinov2Config, LlamaConfig, ResNetConfig

    from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 16, "image_size": 64}
    text = LlamaConfig(
        vocab_size=32_000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=20, num_attention_heads=16,
        max_position_embeddings=2048, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
    )  # fmt: skip
    cnn = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic")
    config = EarthGPTConfig(Dinov2Config(**small), cnn, text, image_size=64, image_token_id=IMAGE)
    model = EarthGPTForConditionalGeneration(config).eval()
    call_for_others(model)
    model.to(torch.bfloat16)
    if kind == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(model.language_model.model, Int8WeightOnlyConfig())
    model.compile_decoding()
    return model


if __name__ == "__main__":
    main()
