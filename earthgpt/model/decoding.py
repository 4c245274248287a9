"""Keys and values of several conversations, each with its own length, and passes of the model that go on from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from weakref import proxy

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from earthgpt.model import captured
from earthgpt.model.attention import NAME, Beginning, Segment
from earthgpt.model.captured import Step
from earthgpt.model.compiled import MOST, Compiled
from earthgpt.model.modeling import EarthGPTForConditionalGeneration

# Places for tokens to come that keys and values are given, so that they are not copied with every token; on a graphics
# card more, since passes are captured anew when they are.
_SPARE, _SPARE_ON_CARD = 32, 128


def readable(model: EarthGPTForConditionalGeneration) -> float:
    """How long the conversations are, in tokens, with which ``read`` does what the model does: all layers attend to all
    tokens before, with torch's attention. 0 for a model that it cannot read, infinity where nothing sets an end."""
    config = model.language_model.config
    window = getattr(config, "sliding_window", None)
    # Without a list of its own all layers of a model with a window have it, as Mistral's.
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    if config._attn_implementation != NAME or not kinds <= {"full_attention", "sliding_attention"}:
        return 0
    return (window if "sliding_attention" in kinds else None) or math.inf


class Rows(Cache):
    """Keys and values [B, H, L, d] of B conversations, without padding: token i of each stands at place i.

    shares: whether rows have what they go on from only once for all, in ``beginnings``, one for each row; then place 0
    is that of the first token behind. Else each row has a copy, and there are none. ends: of each row, the place behind
    its last token. What is written behind the end of a row is seen by none of its tokens, and is written anew: so a row
    is made shorter by going on from an earlier place.
    steps: captured passes over all rows, by how many rows and tokens they are, as long as keys and values stay where
    they are.

    Of a pass under way: first, the first of its rows; places [B, T], where their tokens stand; end, the place behind
    all; anywhere, whether it writes at its places whatever they are, and sees keys and values whole.
    """

    def __init__(self, shares: bool = False):
        super().__init__(layers=[])
        self.shares = shares
        self.beginnings: list[Beginning] = []
        self.ends: list[int] = []
        self.steps: dict[tuple[int, int], Step] = {}
        self.first = self.end = 0
        self.places = torch.zeros(0, 0, dtype=torch.long)
        self.anywhere = False

    def add(self, beginnings: Sequence[Beginning]) -> None:
        """Adds rows, which go on from these."""
        if not self.layers:  # they hold no rows: with them goes the memory, without waiting for Python to find a circle
            self.layers = [_Layer(proxy(self), *states) for states in beginnings[0].states]
        first = len(self.ends)
        self.ends += [0] * len(beginnings)
        if self.shares:
            self.beginnings += beginnings
            self.reserve()
        else:
            self.append(beginnings, first)

    def append(self, parts: Sequence[Beginning], first: int = 0) -> None:
        """Writes what was read elsewhere behind the ends of rows, from ``first`` on."""
        starts = self.ends[first : first + len(parts)]
        self.ends[first : first + len(parts)] = [start + part.length for start, part in zip(starts, parts, strict=True)]
        self.reserve()
        for number, layer in enumerate(self.layers):
            for row, (start, part) in enumerate(zip(starts, parts, strict=True), first):
                for kept, states in zip((layer.keys, layer.values), part.states[number], strict=True):
                    kept[row, :, start : start + part.length] = states[0]

    def row(self, number: int, start: int | None = None, stop: int | None = None) -> Beginning:
        """A copy of what a row has from a place of its conversation to another, for others to go on from; None is its
        own first place and its end. Of rows that share what they go on from, it has what is behind that."""
        begun = self.beginnings[number].length if self.shares else 0
        first, end = 0 if start is None else start - begun, self.ends[number] if stop is None else stop - begun
        own = slice(number, number + 1), slice(None), slice(first, end)
        return _copy(Beginning([(layer.keys[own], layer.values[own]) for layer in self.layers]))

    def remove(self, gone: Sequence[int]) -> list[int]:
        """Takes rows out, and has the last ones move to their places; which of the rows are where then."""
        left = list(range(len(self.ends)))
        for place in sorted(gone, reverse=True):
            last = left.pop()
            if place < len(left):
                left[place] = last
        for place, row in enumerate(left):
            if place != row:
                for layer in self.layers:
                    for kept in (layer.keys, layer.values):
                        kept[place, :, : self.ends[row]] = kept[row, :, : self.ends[row]]
        self.ends = [self.ends[row] for row in left]
        self.beginnings = [self.beginnings[row] for row in left] if self.shares else []
        return left

    def reserve(self) -> None:
        """Makes room for all rows up to their ends. What is much more than that is given up."""
        rows, places = len(self.ends), max(self.ends, default=0)
        height, _, width, _ = self.layers[0].keys.shape
        spare = _SPARE_ON_CARD if self.layers[0].keys.is_cuda else _SPARE
        if rows > height or not places <= width <= max(2 * places, places + 4 * spare):
            self.steps.clear()
            for layer in self.layers:
                layer.resize(height if rows <= height else max(rows, 2 * height), places + spare)


class _Layer(DynamicLayer):
    def __init__(self, rows: Rows, keys: torch.Tensor, values: torch.Tensor):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.rows = rows
        self.keys, self.values = (one.new_zeros(0, one.shape[1], 0, one.shape[3]) for one in (keys, values))

    def resize(self, rows: int, places: int) -> None:
        self.keys, self.values = (_resized(kept, rows, places) for kept in (self.keys, self.values))

    def update(self, key_states, value_states, *args, **kwargs):
        rows, (count, _, length, _) = self.rows, key_states.shape
        keys, values = (kept[rows.first : rows.first + count] for kept in (self.keys, self.values))
        for kept, states in ((keys, key_states), (values, value_states)):
            if count == 1 and not rows.anywhere:
                kept[:, :, rows.end - length : rows.end] = states
            else:
                which = torch.arange(count, device=states.device)[:, None]
                kept[which, :, rows.places] = states.transpose(1, 2).to(kept.dtype)  # autocast mixes types
        return keys[:, :, : rows.end], values[:, :, : rows.end]


def _resized(kept: torch.Tensor, rows: int, places: int) -> torch.Tensor:
    """Zeros behind what is kept [B, H, L, d], and as much of it as there is room for."""
    fresh = kept.new_zeros(rows, kept.shape[1], places, kept.shape[3])
    height, width = min(rows, kept.shape[0]), min(places, kept.shape[2])
    fresh[:height, :, :width] = kept[:height, :, :width]
    return fresh


class _Packed:
    """Conversations as one row, one after the other without padding, where some go on from others."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.segments: list[Segment] = []

    def add(self, tokens: Sequence[int], shared: tuple[int, int] | None = None) -> tuple[int, int]:
        """Where the tokens stand, behind those that stand at ``shared``: (start, stop)."""
        start, (begin, end) = len(self.ids), shared or (0, 0)
        self.ids += tokens
        self.positions += range(end - begin, end - begin + len(tokens))
        if tokens:
            self.segments.append(Segment(start, len(self.ids), *((begin, end) if end > begin else (start, start))))
        return start, len(self.ids)

    def read(
        self, model: EarthGPTForConditionalGeneration, keep: torch.Tensor, **given: torch.Tensor | None
    ) -> tuple[DynamicCache, torch.Tensor]:
        """Keys and values of all, and logits [K, V] behind places [K]. given: what the model takes of the tokens."""
        if model.compiled is not None and model.compiled.stale:
            model.compile_decoding()
        cache = DynamicCache()
        logits = model(
            **given,
            position_ids=torch.tensor([self.positions], device=model.device),
            segments=self.segments,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep.to(model.device),
        ).logits
        return cache, logits[0]


def _part(cache: DynamicCache, start: int, stop: int) -> Beginning:
    """What stands at places of a row, not copied."""
    return Beginning([(layer.keys[:, :, start:stop], layer.values[:, :, start:stop]) for layer in cache.layers])


def _copy(part: Beginning) -> Beginning:
    """Of its own memory: a part of a row would hold all of it."""
    return Beginning([tuple(states.clone(memory_format=torch.contiguous_format) for states in pair)
                      for pair in part.states])  # fmt: skip


def read_beginnings(
    model: EarthGPTForConditionalGeneration, beginnings: Sequence[Sequence[int]], images: Sequence[torch.Tensor]
) -> list[Beginning]:
    """Reads tokens that conversations may go on from (``Rows.add``). images: the visual tokens
    (``model.get_image_features``) of the images in them, in order, [tokens_per_image, D] each."""
    packed = _Packed()
    places = [packed.add(tokens) for tokens in beginnings]
    ids = torch.tensor([packed.ids], device=model.device)
    embedded = model.get_input_embeddings()(ids)  # [1, T, D]
    if images:
        filled = (ids == model.config.image_token_id)[..., None]
        embedded = embedded.masked_scatter(filled, torch.cat(list(images)).to(embedded.dtype))
    cache, _ = packed.read(model, torch.tensor([len(packed.ids) - 1]), inputs_embeds=embedded)
    return [_copy(_part(cache, *place)) for place in places]


def begin(
    model: EarthGPTForConditionalGeneration,
    beginnings: Sequence[Sequence[int]],
    which: Sequence[int],
    tokens: Sequence[Sequence[int]],
    keep: Sequence[int],
    pixels: torch.Tensor | None = None,
) -> tuple[Rows, torch.Tensor, list[int]]:
    """The first pass, over all conversations as one packed row; returns them as rows, and what ``read`` does.

    beginnings: tokens that conversations share, each read once. which: of them each conversation has. tokens: of each,
    behind its beginning. pixels: of the images in the beginnings and tokens, in the order of ``beginnings``, and of
    the conversations of each.
    """
    packed, shared, own = _Packed(), [], [(0, 0)] * len(tokens)
    for number, beginning in enumerate(beginnings):
        shared.append(packed.add(beginning))
        for i in (i for i, one in enumerate(which) if one == number):
            own[i] = packed.add(tokens[i], shared[-1])
    most = max(keep)
    wanted = torch.tensor([max(0, stop - most + i) for _, stop in own for i in range(most)])  # [B * K]
    ids = torch.tensor([packed.ids], device=model.device)
    cache, logits = packed.read(model, wanted, input_ids=ids, pixel_values=pixels)
    rows = Rows(shares=may_share(model) and len(beginnings) < len(which))
    parts = [_part(cache, *place) for place in shared]
    parts = [_copy(part) for part in parts] if rows.shares else parts
    rows.add([parts[number] for number in which])
    rows.append([_part(cache, *place) for place in own])
    return rows, logits.view(len(tokens), most, -1), [most] * len(tokens)


def may_share(model: EarthGPTForConditionalGeneration) -> bool:
    """Whether rows can share what they go on from: ``attention.continued_attention`` knows the device, and values are
    as wide as keys."""
    narrower = getattr(model.language_model.config, "v_head_dim", None)  # DeepSeek's
    return model.device.type == "cpu" and not model.captured and not narrower


def read(
    model: EarthGPTForConditionalGeneration,
    rows: Rows,
    tokens: Sequence[Sequence[int]],
    starts: Sequence[int],
    keep: Sequence[int],
    first: int = 0,
) -> tuple[torch.Tensor, list[int]]:
    """A later pass, over more tokens of rows from ``first`` on: logits [B, K, V], of which those behind the last
    ``keep`` tokens of a row are the ones before the place in K that is told for it.

    starts: the place of each row's first token in its conversation.
    """
    begun = [one.length for one in rows.beginnings[first : first + len(tokens)]] or [0] * len(tokens)
    places = [start - length for start, length in zip(starts, begun, strict=True)]
    width, count = max(map(len, tokens)), sum(map(len, tokens))
    rows.ends[first : first + len(tokens)] = [place + width for place in places]
    rows.reserve()
    if model.compiled is not None and count <= MOST:
        logits = _read_compiled(model.compiled, rows, tokens, starts, first)
    elif model.captured and not first and len(tokens) * width <= captured.MOST:
        logits = _read_captured(model, rows, tokens, starts)
    else:
        logits = _read(model, rows, tokens, starts, places, first, keep)
    rows.ends[first : first + len(tokens)] = [place + len(own) for place, own in zip(places, tokens, strict=True)]
    wanted = _wanted(tokens, keep) if logits.shape[1] < width else range(width)
    return logits, [wanted.index(len(row) - 1) + 1 for row in tokens]


def _wanted(tokens: Sequence[Sequence[int]], keep: Sequence[int]) -> list[int]:
    return sorted({place for row, n in zip(tokens, keep, strict=True) for place in range(len(row) - n, len(row))})


def _padded(tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    width = max(map(len, tokens))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])  # [B, T]


def _read(model: EarthGPTForConditionalGeneration, rows: Rows, tokens, starts, places, first, keep) -> torch.Tensor:
    """Logits [B, K, V] of those of tokens [B, T] that any row wants."""
    device, ids = model.device, _padded(tokens)
    ahead, wanted = torch.arange(ids.shape[1]), _wanted(tokens, keep)
    rows.first, rows.end = first, max(places) + len(ahead)
    rows.places = (torch.tensor(places)[:, None] + ahead).to(device)
    seen = torch.arange(rows.end, device=device) <= rows.places[:, None, :, None]  # [B, 1, T, L]
    return model(
        input_ids=ids.to(device),
        attention_mask=seen,
        position_ids=(torch.tensor(starts)[:, None] + ahead).to(device),
        past_key_values=rows,
        use_cache=True,
        beginnings=rows.beginnings[first : first + len(tokens)],
        logits_to_keep=torch.tensor(wanted, device=device) if len(wanted) < len(ahead) else 0,
    ).logits


def _read_compiled(compiled: Compiled, rows: Rows, tokens, starts, first) -> torch.Tensor:
    """The same for few tokens, all of words, by a program that needs no padding: logits [B, T, V]."""
    each = [(first + i, start + j) for i, (start, own) in enumerate(zip(starts, tokens, strict=True))
            for j in range(len(own))]  # fmt: skip
    logits = compiled.read(rows, torch.tensor([token for own in tokens for token in own]), *zip(*each, strict=True))
    lengths = list(map(len, tokens))
    if len(set(lengths)) == 1:
        return logits.view(len(tokens), lengths[0], -1)
    return torch.nn.utils.rnn.pad_sequence(list(logits.split(lengths)), batch_first=True)


def _read_captured(model: EarthGPTForConditionalGeneration, rows: Rows, tokens, starts) -> torch.Tensor:
    """The same by a pass that comes again and again, for few tokens: logits [B, T, V]."""
    ids = _padded(tokens)
    rows.first, step = 0, rows.steps.get((*ids.shape,))
    if step is None:
        step = rows.steps[*ids.shape] = Step(*ids.shape, rows.layers[0].keys.shape[2], model.device)
    return step.read(model, rows, ids, torch.tensor(starts)[:, None] + torch.arange(ids.shape[1]))
