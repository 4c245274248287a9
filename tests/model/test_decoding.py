"""Rows that come, go, grow and shrink keep the keys and values that each of them has."""

import pytest
import torch

from earthgpt.model import decoding
from earthgpt.model.attention import Beginning
from earthgpt.model.decoding import Rows


def drawn(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return Beginning([tuple(torch.randn(1, 2, length, 4, generator=generator) for _ in range(2)) for _ in range(3)])


def same(one, other):
    pairs = [pair for both in zip(one.states, other.states, strict=True) for pair in zip(*both, strict=True)]
    return all(torch.equal(mine, its) for mine, its in pairs)


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize(
    ("gone", "left"),
    [([], [0, 1, 2, 3, 4]), ([4], [0, 1, 2, 3]), ([0], [4, 1, 2, 3]), ([3, 1], [0, 4, 2]), ([0, 1, 2], [4, 3])],
)
def test_rows_that_stay_have_what_they_had(shares, gone, left):
    begun, own = [drawn(3 + i, i) for i in range(5)], [drawn(7 * i, 10 + i) for i in range(5)]
    rows = Rows(shares)
    rows.add(begun[:2])
    rows.append(own[:2])
    rows.add(begun[2:])  # more rows, and longer ones, than there was room for
    rows.append(own[2:], 2)
    assert rows.remove(gone) == left
    for place, row in enumerate(left):
        parts = [own[row]] if shares else [begun[row], own[row]]
        whole = [tuple(torch.cat(one, dim=2) for one in zip(*layer, strict=True))
                 for layer in zip(*(part.states for part in parts), strict=True)]  # fmt: skip
        assert same(rows.row(place), Beginning(whole))
    assert rows.beginnings == ([begun[row] for row in left] if shares else [])


def test_room_is_given_up_when_the_long_rows_have_gone(monkeypatch):
    monkeypatch.setattr(decoding, "_SPARE", 8)
    rows, short = Rows(), drawn(5, 0)
    rows.add([drawn(900, 1), short])
    rows.remove([0])
    rows.add([short])
    assert rows.layers[0].keys.shape[2] == 13
    assert same(rows.row(0), short) and same(rows.row(1), short)
