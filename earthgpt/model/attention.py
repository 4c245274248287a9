"""Attention in a packed row: many conversations one after the other, each blind to the others, without padding.

A row is divided into segments. The tokens of a segment see, of their own segment, themselves and those before, and all
of the segment that they go on from, if any: so several questions about an image share its tokens, and each is answered
as if it were the only one. Every segment is one call of torch's fused attention on its own part of the row: the work is
what the pairs of tokens that see each other ask for, and no mask of the whole row is ever made. On a graphics card,
where many small calls take longer than their work, the segments of each image are one row of a padded batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "earthgpt_segments"  # among transformers' implementations of attention
MANY = 64  # segments that a graphics card takes as a padded batch


@dataclass(frozen=True, slots=True)
class Segment:
    """Places ``start`` to ``stop`` of a row that go on from places ``shared`` to ``end``, another segment; from none
    where the two are equal."""

    start: int
    stop: int
    shared: int
    end: int

    @property
    def pairs(self) -> int:
        """How many pairs of tokens see each other."""
        length = self.stop - self.start
        return length * (self.end - self.shared) + length * (length + 1) // 2


def segments_of(ids: Sequence[int], offset: int = 0) -> list[Segment]:
    """The segments of one conversation that begins at ``offset``: 0 marks its shared beginning, 1, 2, .. what branches
    from there, in order."""
    bounds = [i for i in range(len(ids)) if i == 0 or ids[i] != ids[i - 1]] + [len(ids)]
    end = offset + (bounds[1] if ids[0] == 0 else 0)
    return [
        Segment(offset + start, offset + stop, offset, end if ids[start] else offset)
        for start, stop in pairwise(bounds)
    ]


@dataclass(frozen=True, eq=False, slots=True)
class Beginning:
    """Tokens that have been read, for conversations that go on from them. states: their keys and values [1, H, P, d],
    layer by layer."""

    states: list[tuple[torch.Tensor, torch.Tensor]]

    @property
    def length(self) -> int:
        """How many tokens."""
        return self.states[0][0].shape[2]

    def until(self, place: int) -> Beginning:
        """The first so many of them, not copied."""
        return Beginning([(keys[:, :, :place], values[:, :, :place]) for keys, values in self.states])

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.states)


def segmented_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segments: Sequence[Segment] | None = None,
    beginnings: Sequence[Beginning] = (),
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention of transformers' interface: [1, heads, T, d] to [1, T, heads, d].

    With ``beginnings``, of rows [B, heads, T, d] that go on from one each; with neither it is transformers' own "sdpa".
    Raises ValueError for a layer that sees only a window of the tokens before, where a segment is longer than that.
    """
    if beginnings:
        shared = [one.states[module.layer_idx] for one in beginnings]
        return continued_attention(query, key, value, attention_mask, shared, scaling), None
    if segments is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    window = kwargs.get("sliding_window")
    grouped = key.shape[1] != query.shape[1]
    if query.device.type == "cuda" and len(segments) >= MANY and not window:
        return padded_attention(query, key, value, segments, dropout, scaling), None
    # Cut all at once: the gradient of a cut is then joined once, where that of each slice would fill the whole row.
    lengths = [segment.stop - segment.start for segment in segments]
    cut = list(zip(*(one.split(lengths, dim=2) for one in (query, key, value)), strict=True))
    whole = {(segment.start, segment.stop): number for number, segment in enumerate(segments)}
    parts = []
    for segment, (queries, keys, values) in zip(segments, cut, strict=True):
        if segment.end > segment.shared:
            _, shared_keys, shared_values = cut[whole[segment.shared, segment.end]]
            keys, values = torch.cat([shared_keys, keys], dim=2), torch.cat([shared_values, values], dim=2)
        length = keys.shape[2]
        if window and length > window:
            raise ValueError(f"A conversation of {length} tokens is longer than the model's window of {window}.")
        bias = _causal(queries.shape[2], length, query.device) if length > queries.shape[2] else None
        options = {"dropout_p": dropout, "is_causal": bias is None, "scale": scaling, "enable_gqa": grouped}
        parts.append(functional.scaled_dot_product_attention(queries, keys, values, bias, **options))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def padded_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Sequence[Segment],
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """The same in one call: a segment and those that go on from it are a row of a padded batch, with a mask.

    Raises ValueError for segments that do not follow the one that they go on from.
    """
    places, real, mask = _batch(tuple(segments), query.device)
    rows = [one[0].transpose(0, 1).index_select(0, places.flatten()).unflatten(0, places.shape).transpose(1, 2)
            for one in (query, key, value)]  # fmt: skip
    grouped = key.shape[1] != query.shape[1]
    found = functional.scaled_dot_product_attention(
        *rows, mask, dropout_p=dropout, scale=scaling, enable_gqa=grouped
    )  # [rows, heads, L, d]
    return found.transpose(1, 2).flatten(0, 1).index_select(0, real)[None]


def continued_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    shared: Sequence[tuple[torch.Tensor, torch.Tensor]],
    scaling: float | None = None,
) -> torch.Tensor:
    """Attention of rows [B, heads, T, d] to their own keys and values [B, H, L, d], as far as ``mask`` [B, 1, T, L]
    says, and to all ``shared`` keys and values [1, H, P, d] of each row: [B, T, heads, d].

    Those that are the same for several rows are read once for all. The two parts are joined by the sums of their
    exponentials (FlashAttention, Dao et al., 2022, section 3.1).
    """
    rows, heads, length, width = query.shape
    groups = heads // key.shape[1]
    own, weight = _weighed(
        query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), scaling, mask
    )  # [B, heads, T, d], [B, heads, T]
    other, others = torch.empty_like(own), torch.empty_like(weight)
    numbers = [id(keys) for keys, _ in shared]
    for number in dict.fromkeys(numbers):
        those = [row for row in range(rows) if numbers[row] == number]
        asking = query[those].transpose(0, 1).reshape(1, key.shape[1], -1, width)
        found, total = _weighed(asking, *shared[those[0]], scaling)
        other[those] = found.reshape(heads, len(those), length, width).transpose(0, 1)
        others[those] = total.reshape(heads, len(those), length).transpose(0, 1)
    both = torch.logaddexp(weight, others)
    parts = ((own, weight), (other, others))
    joined = sum(one.float() * (sure - both).exp()[..., None] for one, sure in parts)
    return joined.to(query.dtype).transpose(1, 2).contiguous()


def _weighed(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention on a processor, and the logarithm of the sum of exponentials of each query [B, heads, T]. torch tells
    that by this operation of its own alone; ``scaled_dot_product_attention`` calls it too."""
    if mask is not None:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=mask, scale=scaling)


@lru_cache(maxsize=2)  # all layers of a pass have the same
def _batch(segments: tuple[Segment, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The places of the row that each row of a padded batch holds [G, L], where in these the row's places are [T], and
    which tokens see each other [G, 1, L, L]."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if segment.end == segment.shared:
            groups.append([])
        elif not groups or (groups[-1][0].start, groups[-1][0].stop) != (segment.shared, segment.end):
            raise ValueError(f"{segment} does not follow the segment that it goes on from.")
        groups[-1].append(segment)
    longest = max(group[-1].stop - group[0].start for group in groups)
    places = torch.empty(len(groups), longest, dtype=torch.long)
    number = torch.full((len(groups), longest), -1)  # of its segment in the group; -1 is padding, which sees padding
    for row, group in enumerate(groups):
        start, stop = group[0].start, group[-1].stop
        places[row] = torch.arange(start, start + longest).clamp(max=stop - 1)
        for i, segment in enumerate(group):
            number[row, segment.start - start : segment.stop - start] = i
    (real,) = (number.flatten() >= 0).nonzero(as_tuple=True)
    number = number.to(device)
    asking, asked = number[:, :, None], number[:, None, :]
    mask = ((asking == asked) | (asked == 0) & (asking > 0)).tril()
    return places.to(device), real.to(device), mask[:, None]


def _causal(asking: int, seen: int, device: torch.device) -> torch.Tensor:
    """The last ``asking`` of ``seen`` tokens each see themselves and those before."""
    if device.type == "cuda":
        return causal_lower_right(asking, seen)  # no mask at all in the kernel
    return torch.ones(asking, seen, dtype=torch.bool, device=device).tril(seen - asking)


AttentionInterface.register(NAME, segmented_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
