"""Passes over a few tokens by a program of our own (``compiled.cpp``), compiled for the machine that it runs on.

A token's time on a processor is that of reading all weights once. torch's products of one row reach about half of what
memory gives, and are called one by one; here one call does the whole pass, on the weights where they lie.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from earthgpt.types import EarthGPTError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from earthgpt.model.decoding import Rows

MOST = 16  # tokens of a pass: with more, torch's products of matrices are faster
_LARGE = 2**20  # bytes of a weight; smaller ones stay in the processor's caches
_KINDS = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
_ROTARY = ("default", "linear", "llama3", "yarn")  # those whose turns do not depend on the length


class Compiled:
    """A language model whose short passes are compiled. Its weights are float32, bfloat16 or torchao's int8.

    Values are rounded where transformers rounds them, and summed up in another order. Weights stay where they are, but
    norms, biases and scales are copied: once the model has changed it is ``stale``, and is to be made anew.
    Raises EarthGPTError where there is no C++ compiler, and for a model that it is not made for.
    """

    def __init__(self, language_model: PreTrainedModel):
        config, decoder = language_model.config, language_model.get_decoder()
        if language_model.device.type != "cpu":
            raise EarthGPTError(f"Compiled decoding is for processors, and the model is on {language_model.device}.")
        if config.model_type not in _KINDS or config.hidden_act != "silu":
            raise EarthGPTError(f"Compiled decoding knows {', '.join(_KINDS)}, and not this {config.model_type}.")
        if (config.rope_parameters or {}).get("rope_type", "default") not in _ROTARY:
            raise EarthGPTError(f"Compiled decoding knows positions that are {', '.join(_ROTARY)} only.")
        self._type = language_model.dtype
        if self._type not in (torch.float32, torch.bfloat16):
            raise EarthGPTError(f"Compiled decoding computes in float32 or bfloat16, not in {_name(self._type)}.")
        self._library = _library()
        self._language_model, self._made_of = language_model, _state(language_model)
        self._embeddings, self._rotary = language_model.get_input_embeddings(), decoder.rotary_emb
        self._held: list[torch.Tensor] = []  # what the program points to
        self._turns: tuple[torch.Tensor, torch.Tensor] | None = None
        attention = decoder.layers[0].self_attn
        width = attention.head_dim
        self._layers = (_Layer * len(decoder.layers))(*map(self._layer, decoder.layers))
        self._head = self._linear(language_model.get_output_embeddings())
        self._model = _Model(
            ctypes.cast(self._layers, ctypes.POINTER(_Layer)),
            self._head,
            self._vector(decoder.norm.weight),
            len(decoder.layers),
            config.hidden_size,
            self._layers[0].query.out // width,
            self._layers[0].key.out // width,
            width,
            self._layers[0].gate.out,
            decoder.norm.variance_epsilon,
            attention.scaling,
            self._type == torch.bfloat16,
        )

    def read(self, rows: Rows, ids: torch.Tensor, which: Sequence[int], places: Sequence[int]) -> torch.Tensor:
        """Logits [n, V] of tokens [n], of these rows, at their places in the conversation; the rows have room."""
        one, count = self._model, len(ids)
        lengths = [beginning.length for beginning in rows.beginnings] or [0] * len(rows.ends)
        begun = [lengths[row] for row in which]
        for number, (layer, kept) in enumerate(zip(self._layers, rows.layers, strict=True)):
            layer.keys, layer.values = kept.keys.data_ptr(), kept.values.data_ptr()
            shared = zip(*(beginning.states[number] for beginning in rows.beginnings), strict=True)
            layer.shared_keys, layer.shared_values = map(_pointers, shared) if rows.beginnings else (None, None)
        room, threads = rows.layers[0].keys.shape[2], torch.get_num_threads()
        furthest = max(begun) + room
        cosines, sines = self._turned(furthest)
        hidden = self._embeddings(ids).float()  # [n, D], a copy of the program's own
        logits = torch.empty(count, self._head.out)
        queries, keys = one.heads * one.width, one.key_heads * one.width
        each = count * one.hidden + furthest + 8 * max(one.hidden, queries, one.inner)
        space = torch.empty(count * (2 * queries + 2 * keys + 2 * one.inner + one.hidden) + threads * each)
        turns = [turn[list(places)] for turn in (cosines, sines)]
        whole = ctypes.c_int64 * count
        self._library.earthgpt_read(
            ctypes.byref(one), count, whole(*which), whole(*places), whole(*begun), furthest, room,
            *(one.data_ptr() for one in (*turns, hidden, logits, space)), threads,
        )  # fmt: skip
        return logits

    @property
    def stale(self) -> bool:
        """Whether the model's weights have been changed, moved or replaced since."""
        return self._made_of != _state(self._language_model)

    def _turned(self, room: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines [room, width] of all places."""
        if self._turns is None or len(self._turns[0]) < room:
            like = torch.empty(0, dtype=self._type)
            cosines, sines = self._rotary(like, torch.arange(room)[None])
            self._turns = cosines[0].float(), sines[0].float()
        return self._turns

    def _layer(self, layer: nn.Module) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        products = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        products += (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        norms = (layer.input_layernorm, getattr(attention, "q_norm", None), getattr(attention, "k_norm", None))
        norms += (layer.post_attention_layernorm,)
        return _Layer(
            *map(self._linear, products),
            *(None if norm is None else self._vector(norm.weight) for norm in norms),
            *(None,) * 4,
            bool(getattr(attention, "use_rope", True)),
        )

    def _linear(self, module: nn.Module) -> _Linear:
        weight, scale = module.weight, None
        if type(module) is not nn.Linear:
            raise EarthGPTError(
                f"Compiled decoding is for plain layers, and not {type(module).__name__}. Merge bias tuning and LoRA "
                "first: earthgpt models merge MODEL -o FOLDER"
            )
        if hasattr(weight, "qdata"):
            whole_rows = tuple(weight.block_size) == (1, weight.shape[1])
            if not whole_rows or weight.act_quant_kwargs is not None or weight.act_pre_scale is not None:
                raise EarthGPTError("Of torchao's ways, compiled decoding knows Int8WeightOnlyConfig with whole rows.")
            weight, scale = weight.qdata, weight.scale.flatten()
        weight = weight.detach()
        if weight.dtype not in _TYPES or not weight.is_contiguous() or type(weight) not in (torch.Tensor, nn.Parameter):
            raise EarthGPTError(f"Compiled decoding does not know weights that are {type(weight).__name__}.")
        if scale is None and weight.dtype != self._type:
            raise EarthGPTError(
                f"Compiled decoding is for weights of one type, not {_name(weight.dtype)} and {_name(self._type)}."
            )
        self._held.append(weight)
        if weight.nbytes >= _LARGE:
            enlarge_pages(weight)
        return _Linear(
            weight.data_ptr(),
            None if scale is None else self._vector(scale),
            None if module.bias is None else self._vector(module.bias),
            *weight.shape,
            _TYPES[weight.dtype],
        )

    def _vector(self, values: torch.Tensor) -> int:
        self._held.append(values.detach().float().contiguous())
        return self._held[-1].data_ptr()


def enlarge_pages(values: torch.Tensor) -> None:
    """Has Linux hold values in pages of 2 MB, where they lie and where it can: they are read up to a sixth faster. It
    takes two seconds for a GB. Values that lie in a file stay as they are."""
    _library().earthgpt_enlarge_pages(values.data_ptr(), values.nbytes)


def _state(language_model: PreTrainedModel) -> list[tuple[int, int]]:
    """Where each weight lies, and how often it was written to."""
    weights = (getattr(one, "qdata", one) for one in language_model.parameters())
    return [(one.data_ptr(), one._version) for one in weights]


def _pointers(values: Sequence[torch.Tensor]) -> ctypes.Array:
    return (ctypes.c_void_p * len(values))(*(one.data_ptr() for one in values))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _Linear(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "scale", "bias")),
        *((name, ctypes.c_int64) for name in ("out", "inner")),
        ("kind", ctypes.c_int32),
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Linear) for name in ("query", "key", "value", "output", "gate", "up", "down")),
        *((name, ctypes.c_void_p) for name in ("norm", "query_norm", "key_norm", "middle_norm", "keys", "values")),
        *((name, ctypes.POINTER(ctypes.c_void_p)) for name in ("shared_keys", "shared_values")),
        ("turned", ctypes.c_int32),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        ("head", _Linear),
        ("norm", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("depth", "hidden", "heads", "key_heads", "width", "inner")),
        *((name, ctypes.c_float) for name in ("epsilon", "scaling")),
        ("bfloat16", ctypes.c_int32),
    ]


@functools.cache
def _library() -> ctypes.CDLL:
    """The program. It is compiled once in a process, in two seconds, and no file is kept."""
    known = [one for one in map(shutil.which, ("g++", "clang++")) if one]
    compiler = shlex.split(os.environ.get("CXX", "")) or known[:1]
    if not compiler:
        raise EarthGPTError(
            "Compiled decoding needs a C++ compiler, g++ or clang++; without it, load the model plainly."
        )
    source = Path(__file__).with_suffix(".cpp")
    wide = ["-mprefer-vector-width=512"] if platform.machine().lower() in ("x86_64", "amd64") else []
    options = ["-std=c++17", "-O3", "-march=native", *wide, "-fopenmp", "-fPIC", "-shared"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "compiled.so"
        try:
            done = subprocess.run([*compiler, *options, source, "-o", made], capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise EarthGPTError(f"{compiler[0]} could not compile the decoding: {reason}")
            library = ctypes.CDLL(str(made))
        except OSError as error:  # there is no such compiler, or programs may not be in that folder
            raise EarthGPTError(f"{compiler[0]} could not compile the decoding: {error}") from None
    pointer = ctypes.c_void_p
    library.earthgpt_read.argtypes = [
        pointer, ctypes.c_int32, pointer, pointer, pointer, ctypes.c_int64, ctypes.c_int64, *[pointer] * 5,
        ctypes.c_int32,
    ]  # fmt: skip
    library.earthgpt_enlarge_pages.argtypes = [pointer, ctypes.c_int64]
    library.earthgpt_read.restype = library.earthgpt_enlarge_pages.restype = None
    return library
