"""Keys and values of several conversations, each with its own length, and passes of the model that go on from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from weakref import proxy

import torch
from torch.nn import functional
from transformers.cache_utils import Cache, DynamicLayer

from earthgpt.model import captured
from earthgpt.model.attention import NAME, Beginnings, Segment
from earthgpt.model.captured import Step
from earthgpt.model.compiled import MOST, Compiled
from earthgpt.model.modeling import EarthGPTForConditionalGeneration

# Places for tokens to come that keys and values are given, so that they are not copied with every token.
_SPARE = 128


def readable(model: EarthGPTForConditionalGeneration, length: int) -> bool:
    """Whether ``read`` does what the model does with conversations of up to ``length`` tokens: all layers attend to all
    tokens before, with torch's attention."""
    config = model.language_model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if kinds != {"full_attention"} else None
    return (
        config._attn_implementation == NAME
        and kinds <= {"full_attention", "sliding_attention"}
        and (not window or length <= window)
    )


class Rows(Cache):
    """Keys and values [B, H, L, d] of B conversations, without padding: token i of each stands at place i.

    beginnings: what several of them go on from, and have once; then place 0 is that of the first token behind. parts:
    of the packed row of the first pass, those that each conversation has, (start, stop) one after the other. places [B,
    T]: where the tokens of a later pass stand that is under way. What is written behind the end of a row is seen by
    none of its tokens, and is written anew: so a row is made shorter by going on from an earlier place. anywhere:
    whether the pass under way writes at its places whatever they are, and sees keys and values whole. steps: such
    passes by their number of tokens, as long as keys and values stay where they are.
    """

    def __init__(self):
        # Layers hold no rows: with them goes the memory, without waiting for Python to find a circle.
        super().__init__(layer_class_to_replicate=partial(_Layer, proxy(self)))
        self.beginnings: Beginnings | None = None
        self.parts: list[list[tuple[int, int]]] = []
        self.places = torch.zeros(0, 0, dtype=torch.long)
        self.end = 0
        self.anywhere = False
        self.steps: dict[int, Step] = {}

    def select(self, rows: Sequence[int]) -> None:
        """Keeps some rows, or the same row several times, in this order."""
        self.steps.clear()
        if self.beginnings:
            self.beginnings.which = [self.beginnings.which[row] for row in rows]
        self.batch_select_indices(torch.tensor(rows, device=self.layers[0].keys.device))


class _Layer(DynamicLayer):
    def __init__(self, rows: Rows):
        super().__init__()
        self.rows = rows

    def reserve(self, end: int) -> None:
        """Makes room for tokens before place ``end``."""
        if end > self.keys.shape[2]:
            self.rows.steps.clear()
            wider = (0, 0, 0, end + _SPARE - self.keys.shape[2])
            self.keys, self.values = functional.pad(self.keys, wider), functional.pad(self.values, wider)

    def update(self, key_states, value_states, *args, **kwargs):
        rows, end = self.rows, self.rows.end
        if not self.is_initialized:
            self.keys, self.values = (self._unpacked(states) for states in (key_states, value_states))
            if rows.beginnings:
                rows.beginnings.states.append(tuple(self._shared(states) for states in (key_states, value_states)))
            self.is_initialized = True
            return key_states, value_states
        self.reserve(end)
        length = key_states.shape[2]
        for kept, states in ((self.keys, key_states), (self.values, value_states)):
            if len(states) == 1 and not rows.anywhere:
                kept[:, :, end - length : end] = states
            else:
                which = torch.arange(len(states), device=states.device)[:, None]
                kept[which, :, rows.places] = states.transpose(1, 2)
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _unpacked(self, states: torch.Tensor) -> torch.Tensor:
        """States of a packed row [1, H, T, d] as those of the conversations in it [B, H, L, d]."""
        parts = [own[bool(self.rows.beginnings) :] for own in self.rows.parts]
        kept = states.new_empty(len(parts), states.shape[1], self.rows.end + _SPARE, states.shape[3])
        for row, own in zip(kept, parts, strict=True):
            place = 0
            for start, stop in own:
                row[:, place : place + stop - start] = states[0, :, start:stop]
                place += stop - start
            row[:, place:] = 0
        return kept

    def _shared(self, states: torch.Tensor) -> torch.Tensor:
        """Of a packed row [1, H, T, d], the states of the beginnings [G, H, P, d]."""
        firsts = dict(zip(self.rows.beginnings.which, (own[0] for own in self.rows.parts), strict=True))
        return torch.stack([states[0, :, start:stop] for _, (start, stop) in sorted(firsts.items())])


def begin(
    model: EarthGPTForConditionalGeneration,
    rows: Rows,
    beginnings: Sequence[Sequence[int]],
    which: Sequence[int],
    tokens: Sequence[Sequence[int]],
    keep: Sequence[int],
    pixels: torch.Tensor | None = None,
) -> tuple[torch.Tensor, list[int]]:
    """The first pass, over all conversations as one packed row without padding; returns what ``read`` does.

    beginnings: tokens that conversations share, each read once. which: of them each conversation has. tokens: of each,
    behind its beginning. pixels: of the images in the beginnings and tokens, in the order of ``beginnings``, and of
    the conversations of each.
    """
    if model.compiled is not None and model.compiled.stale:
        model.compile_decoding()
    ids: list[int] = []
    positions: list[int] = []
    segments, parts = [], [[] for _ in tokens]

    def add(more: Sequence[int], shared: tuple[int, int], place: int) -> tuple[int, int]:
        start = len(ids)
        ids.extend(more)
        positions.extend(range(place, place + len(more)))
        if more:
            segments.append(Segment(start, len(ids), *shared))
        return start, len(ids)

    for number, beginning in enumerate(beginnings):
        shared = add(beginning, (len(ids), len(ids)), 0)
        for i in (i for i, one in enumerate(which) if one == number):
            parts[i] = [shared, add(tokens[i], shared, len(beginning))]
    rows.parts, rows.end = parts, max(len(beginnings[one]) + len(own) for one, own in zip(which, tokens, strict=True))
    lengths = {len(beginning) for beginning in beginnings}
    if len(beginnings) < len(which) and len(lengths) == 1 and _may_share(model):
        rows.beginnings = Beginnings(lengths.pop(), list(which), [])
        rows.end -= rows.beginnings.length
    most = max(keep)
    wanted = torch.tensor([[max(0, stop - most + i) for i in range(most)] for _, (_, stop) in parts])  # [B, K]
    logits = model(
        input_ids=torch.tensor([ids], device=model.device),
        pixel_values=pixels,
        position_ids=torch.tensor([positions], device=model.device),
        segments=segments,
        past_key_values=rows,
        use_cache=True,
        logits_to_keep=wanted.flatten().to(model.device),
    ).logits
    return logits.view(len(tokens), most, -1), [most] * len(tokens)


def _may_share(model: EarthGPTForConditionalGeneration) -> bool:
    """Whether ``attention.continued_attention`` knows the device, and values are as wide as keys."""
    narrower = getattr(model.language_model.config, "v_head_dim", None)  # DeepSeek's
    return model.device.type == "cpu" and not model.captured and not narrower


def read(
    model: EarthGPTForConditionalGeneration,
    rows: Rows,
    tokens: Sequence[Sequence[int]],
    starts: Sequence[int],
    keep: Sequence[int],
) -> tuple[torch.Tensor, list[int]]:
    """A later pass, over more tokens of each conversation: logits [B, K, V], of which those behind the last ``keep``
    tokens of a row are the ones before the place in K that is told for it.

    starts: the place of each row's first token.
    """
    width = max(map(len, tokens))
    if model.compiled is not None and rows.layers and len(tokens) * width <= MOST:
        return _read_compiled(model.compiled, rows, tokens, starts, keep, width)
    if model.captured and rows.layers and len(tokens) * width <= captured.MOST:
        return _read_captured(model, rows, tokens, starts, width)
    device, begun = model.device, rows.beginnings.length if rows.beginnings else 0
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens], device=device)  # [B, T]
    positions = torch.tensor([[*range(start, start + width)] for start in starts], device=device)
    rows.places, rows.end = positions - begun, max(starts) + width - begun
    seen = torch.arange(rows.end, device=device) <= rows.places[:, None, :, None]  # [B, 1, T, L]
    wanted = _wanted(tokens, keep)
    logits = model(
        input_ids=ids,
        attention_mask=seen,
        position_ids=positions,
        past_key_values=rows,
        use_cache=True,
        beginnings=rows.beginnings,
        logits_to_keep=torch.tensor(wanted, device=device) if len(wanted) < width else 0,
    ).logits
    return logits, [wanted.index(len(row) - 1) + 1 for row in tokens]


def _wanted(tokens: Sequence[Sequence[int]], keep: Sequence[int]) -> list[int]:
    return sorted({place for row, n in zip(tokens, keep, strict=True) for place in range(len(row) - n, len(row))})


def _read_compiled(compiled: Compiled, rows: Rows, tokens, starts, keep, width: int) -> tuple[torch.Tensor, list[int]]:
    """``read`` by ``compiled``, for few tokens, all of words."""
    begun = rows.beginnings.length if rows.beginnings else 0
    for layer in rows.layers:
        layer.reserve(max(starts) + width - begun)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens]).flatten()
    which = [i for i in range(len(tokens)) for _ in range(width)]
    places = [place for start in starts for place in range(start, start + width)]
    logits = compiled.read(rows, ids, which, places).view(len(tokens), width, -1)
    wanted = _wanted(tokens, keep)
    return logits[:, wanted], [wanted.index(len(row) - 1) + 1 for row in tokens]


def _read_captured(
    model: EarthGPTForConditionalGeneration, rows: Rows, tokens, starts, width: int
) -> tuple[torch.Tensor, list[int]]:
    """``read`` by a pass that comes again and again, for few tokens."""
    for layer in rows.layers:
        layer.reserve(max(starts) + width)
    if width not in rows.steps:
        rows.steps[width] = Step(len(tokens), width, rows.layers[0].keys.shape[2], model.device)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
    places = torch.tensor([[*range(start, start + width)] for start in starts])
    return rows.steps[width].read(model, rows, ids, places), [len(row) for row in tokens]
