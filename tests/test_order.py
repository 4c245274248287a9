"""Which item comes when."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.conversations import write
from earthgpt.order import key_of, share, shuffled
from earthgpt.types import Conversation

KEYS = st.integers(0, 2**64 - 1)


@given(st.integers(1, 2000), KEYS)
def test_a_shuffle_has_every_item_once(length, key):
    assert sorted(shuffled(position, length, key) for position in range(length)) == list(range(length))


@given(st.integers(1, 10**15), st.data(), KEYS)
def test_a_long_shuffle_stays_in_its_range_and_takes_no_memory(length, data, key):
    position = data.draw(st.integers(0, length - 1))
    assert 0 <= shuffled(position, length, key) < length


@pytest.mark.parametrize("position", [-1, 7])
def test_there_is_nothing_outside_the_range(position):
    with pytest.raises(IndexError, match=r"not in 0 \.\. 6"):
        shuffled(position, 7, 1)
    with pytest.raises(IndexError):
        shuffled(0, 0, 1)


def test_shuffles_and_keys_are_the_same_on_every_machine():
    assert key_of(7, 0) == 7460249836862745343
    assert [shuffled(position, 10, 1) for position in range(10)] == [5, 9, 3, 7, 4, 0, 1, 6, 8, 2]


def test_keys_depend_on_every_part_and_its_place():
    parts = [(), (0,), (0, 0), (0, 1), (1, 0), ("0",), (10,), (1, "0")]
    assert len({key_of(*some) for some in parts}) == len(parts)
    assert all(0 <= key_of(*some) < 2**64 for some in parts)


def test_neighbouring_keys_give_unrelated_shuffles():
    one, two = ([shuffled(position, 1000, key) for position in range(1000)] for key in (1, 2))
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 8  # one is expected; 8 has a chance of 1 in 100,000


@pytest.mark.parametrize("length", [3, 5, 16])
def test_every_item_is_equally_likely_at_every_place_and_beside_every_other(length):
    draws = 4000
    shuffles = [[shuffled(position, length, key_of("even", i)) for position in range(length)] for i in range(draws)]
    places = Counter((position, item) for shuffle in shuffles for position, item in enumerate(shuffle))
    expected = draws / length
    chi_squared = sum((places[a, b] - expected) ** 2 / expected for a in range(length) for b in range(length))
    assert chi_squared < 2 * length * (length - 1)  # its mean is at most length * (length - 1)
    first_two = Counter((shuffle[0], shuffle[1]) for shuffle in shuffles)
    expected = draws / (length * (length - 1))
    assert len(first_two) == length * (length - 1)
    assert sum((count - expected) ** 2 / expected for count in first_two.values()) < 2 * length * (length - 1)


def test_items_that_were_neighbours_are_far_apart():
    length = 10_000
    apart = [abs(shuffled(p, length, 5) - shuffled(p + 1, length, 5)) for p in range(length - 1)]
    assert abs(sum(apart) / len(apart) / length - 1 / 3) < 0.01  # two uniform numbers are a third apart


@given(st.integers(0, 50), st.integers(0, 200), st.integers(1, 5), st.integers(1, 4))
def test_ranks_share_every_batch_and_leave_nothing_out(start, length, ranks, each):
    batch_size, stop = ranks * each, start + length
    shares = [share(start, stop, rank, ranks, batch_size) for rank in range(ranks)]
    assert sorted(item for part in shares for item in part) == list(range(start, stop))
    for step in range(-(-length // batch_size)):
        begin = start + step * batch_size
        batch = sorted(item for part in shares for item in part[step * each : (step + 1) * each])
        assert batch == list(range(begin, min(begin + batch_size, stop)))
        rest = [share(begin, stop, rank, ranks, batch_size) for rank in range(ranks)]
        assert rest == [part[step * each :] for part in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_is_worked_out_by_hand():
    assert list(share(8, 20, 1, 2, 4)) == [9, 11, 13, 15, 17, 19]


def test_ranks_that_cannot_share_equally_are_refused():
    with pytest.raises(ValueError, match="multiple of 3"):
        share(0, 100, 0, 3, 8)
    with pytest.raises(ValueError, match="Rank 2"):
        share(0, 100, 2, 2, 8)


READER = """
import sys
from torch.utils.data import DataLoader, Dataset
from earthgpt.conversations import Records
from earthgpt.order import key_of, share, shuffled

path, (rank, step) = sys.argv[1], map(int, sys.argv[2:])


class Texts(Dataset):
    records = Records(path)

    def __getitem__(self, item):
        epoch, position = divmod(item, len(self.records))
        return self.records[shuffled(position, len(self.records), key_of(3, epoch))].messages[0].text


sampler = share(step * 10, 200, rank, 2, 10)  # 100 records, two epochs, batches of 5 on each of two ranks
print(*map(",".join, DataLoader(Texts(), batch_size=5, sampler=sampler, num_workers=2, collate_fn=list)))
"""


def test_two_processes_with_two_workers_read_each_record_once_and_go_on_in_the_middle(tmp_path):
    path = tmp_path / "some.json"
    write(path, (Conversation.of((), str(i), "Yes.") for i in range(100)))

    def batches(step):
        """The texts of each step, from ``step`` on, of both ranks."""
        command = [sys.executable, "-c", READER, str(path)]
        ranks = [
            subprocess.Popen([*command, str(rank), str(step)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)
        ]
        outputs = [rank.communicate()[0].split() for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0]
        return [f"{one},{two}".split(",") for one, two in zip(*outputs, strict=True)]

    steps = batches(0)
    assert [len(step) for step in steps] == [10] * 20
    texts = [text for step in steps for text in step]
    for epoch in (texts[:100], texts[100:]):
        assert sorted(map(int, epoch)) == list(range(100))
    assert texts[:100] != texts[100:]
    assert batches(5) == steps[5:]
