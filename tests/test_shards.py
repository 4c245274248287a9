"""Shards as img2dataset writes them."""

import io
import json
import pickle
import tarfile
from itertools import pairwise

import pytest

from earthgpt import shards
from earthgpt.shards import Captioned, Shards
from earthgpt.types import EarthGPTError


def add(tar, name, content, **fields):
    """A member as webdataset's TarWriter makes it; the fraction of a second makes tarfile add a pax header."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), 1700000000.25, 0o444
    member.uname = member.gname = "bigdata"
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def image_of(key):
    return b"\xff\xd8" + key.encode() * 50 + b"\xff\xd9"


def make_shard(folder, number, count, stats=True):
    """``count`` samples of which every fifth address could not be downloaded, as img2dataset leaves them."""
    path = folder / f"{number:05d}.tar"
    keys = [f"{number:05d}{i:04d}" for i in range(count * 5 // 4 + 1) if i % 5 != 2][:count]
    with tarfile.open(path, "w") as tar:
        for key in keys:
            add(tar, f"{key}.jpg", image_of(key))
            add(tar, f"{key}.json", json.dumps({"key": key, "status": "success", "width": 256}, indent=4).encode())
            add(tar, f"{key}.txt", f"Straße {key}".encode())
    path.with_suffix(".parquet").write_bytes(b"PAR1")
    if stats:
        content = {"count": len(keys) + 3, "successes": len(keys), "failed_to_download": 3, "status_dict": {}}
        path.with_name(f"{number:05d}_stats.json").write_text(json.dumps(content, indent=4))
    return [Captioned(key, image_of(key), f"Straße {key}") for key in keys]


@pytest.mark.parametrize("stats", [True, False])
def test_samples_are_read_in_the_order_of_the_tars(tmp_path, stats):
    expected = [
        sample for number, count in enumerate((7, 0, 4)) for sample in make_shard(tmp_path, number, count, stats)
    ]
    samples = Shards(tmp_path)
    assert len(samples) == 11
    assert samples[7].key == "000020000"
    assert list(samples) == expected
    assert samples[-1] == expected[-1]
    assert not samples.defects
    with pytest.raises(IndexError):
        samples[11]


def test_shards_are_named_by_folder_pattern_or_list(tmp_path):
    for number in range(3):
        make_shard(tmp_path, number, 2)
    tars = [tmp_path / "00001.tar", tmp_path / "00002.tar"]
    assert Shards(tmp_path / "*.tar").paths == Shards(str(tmp_path)).paths == [tmp_path / "00000.tar", *tars]
    assert Shards(f"{tmp_path}/{{00001..00002}}.tar").paths == Shards(map(str, tars)).paths == tars


def test_shards_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(EarthGPTError, match=r"no shards \(\.tar\)"):
        Shards(tmp_path)
    make_shard(tmp_path, 0, 2)
    with pytest.raises(EarthGPTError, match=r"no shard .*00001\.tar"):
        Shards(f"{tmp_path}/{{00000..00001}}.tar")


def test_a_tar_is_gone_through_once(tmp_path):
    expected = make_shard(tmp_path, 0, 5)
    assert Shards(tmp_path)[3] == expected[3]
    index = tmp_path / "00000.tar.index"
    made = index.stat().st_mtime_ns
    for damage in ("", "[]", '{"size": 1}', "nothing"):
        assert list(pickle.loads(pickle.dumps(Shards(tmp_path)))) == expected
        assert index.stat().st_mtime_ns == made
        index.write_text(damage)
        shards._table.cache_clear()
        assert list(Shards(tmp_path)) == expected
        assert index.stat().st_mtime_ns != made
        made = index.stat().st_mtime_ns


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path):
    expected = make_shard(tmp_path, 0, 3, stats=False)
    (tmp_path / "00000.tar.index").mkdir()
    assert list(Shards(tmp_path)) == expected
    assert not list(tmp_path.glob(".*"))


def test_only_the_places_of_the_last_tars_are_kept(tmp_path):
    for number in range(20):
        make_shard(tmp_path, number, 2)
    assert len(list(Shards(tmp_path))) == 40
    assert shards._table.cache_info().currsize == 8


def test_opening_looks_into_no_tar_whose_samples_are_counted(tmp_path):
    make_shard(tmp_path, 0, 2)
    (tmp_path / "00000.tar").write_bytes(b"no tar")
    assert len(Shards(tmp_path)) == 2


def test_stats_that_promise_other_samples_are_an_error_when_the_tar_is_read(tmp_path):
    make_shard(tmp_path, 0, 4)
    expected = make_shard(tmp_path, 1, 4)
    stats = tmp_path / "00001_stats.json"
    stats.write_text('{"successes": 5}')
    samples = Shards(tmp_path)
    assert len(samples) == 9
    assert samples[3].key
    with pytest.raises(EarthGPTError, match=r"00001\.tar holds 4 samples .* 00001_stats\.json promises 5"):
        samples[4]
    stats.unlink()
    assert list(Shards(tmp_path))[4:] == expected


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"successes": "4"}', '{"successes": -1}', '{"successes": true}'])
def test_stats_without_a_count_are_an_error(tmp_path, content):
    make_shard(tmp_path, 0, 4)
    (tmp_path / "00000_stats.json").write_text(content)
    with pytest.raises(EarthGPTError, match=r"00000_stats\.json"):
        Shards(tmp_path)


def test_what_is_left_out_is_counted(tmp_path):
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, ".", b"", type=tarfile.DIRTYPE)
        add(tar, "a.jpg", b"A")
        add(tar, "a.txt", b"a \xff b")
        add(tar, "b.jpg", b"B")
        add(tar, "c.txt", b"c")
        add(tar, "a.jpg", b"A again")
        add(tar, "e.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "e.txt", b"e")
        add(tar, "f.cls", b"7")
    samples = Shards(path.parent)
    assert list(samples) == [Captioned("a", b"A", "a \N{REPLACEMENT CHARACTER} b")]
    assert samples.defects == {
        "images without a caption": 1,
        "captions without an image": 2,
        "members with a key that was there before": 1,
        "members that are no plain files": 1,
        "members that are neither image nor caption": 1,
        "captions that are not UTF-8, read with replacements": 1,
    }


def test_a_sample_without_its_caption_breaks_the_promise_of_the_stats(tmp_path):
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        add(tar, "a.jpg", b"A")
        add(tar, "b.jpg", b"B")
        add(tar, "b.txt", b"b")
    (tmp_path / "00000_stats.json").write_text('{"successes": 2}')
    with pytest.raises(EarthGPTError, match=r"holds 1 samples .*images without a caption: 1"):
        Shards(tmp_path)[0]


def test_hostile_names_are_only_names(tmp_path):
    names = ["../../a", "/etc/b", "C:\\d", "x" * 5000, "e\udcff"]
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for name in names:
            add(tar, f"{name}.PNG", b"I")
            add(tar, f"{name}.txt", b"C")
    before = sorted(tmp_path.iterdir())
    samples = Shards(tmp_path)
    assert [sample.image for sample in samples] == [b"I"] * 5
    assert [sample.key for sample in samples][:4] == names[:4]
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / "00000.tar.index"]


def test_a_tar_that_is_cut_anywhere_is_an_error(tmp_path):
    make_shard(tmp_path, 0, 3, stats=False)
    path = tmp_path / "00000.tar"
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + 512  # where the blocks of zeros begin
    for length in (0, 100, 512, 600, 1024, end // 2, end // 1024 * 512, end - 512, end - 1, end):
        path.write_bytes(content[:length])
        with pytest.raises(EarthGPTError, match=r"00000\.tar is damaged or cut short"):
            Shards(tmp_path)


def test_a_header_that_is_damaged_is_not_taken_for_the_end(tmp_path):
    make_shard(tmp_path, 0, 3, stats=False)
    path = tmp_path / "00000.tar"
    with tarfile.open(path) as tar:
        second = tar.getmembers()[4].offset
    content = bytearray(path.read_bytes())
    content[second + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(EarthGPTError, match="damaged"):
        Shards(tmp_path)


@pytest.mark.parametrize("size", ["-512", "-1", "99999999999999999999", "x"])
def test_a_size_that_cannot_be_is_an_error(tmp_path, size):
    with tarfile.open(tmp_path / "00000.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "a.jpg", b"A", pax_headers={"size": size})
    with pytest.raises(EarthGPTError, match="damaged"):
        Shards(tmp_path)


def test_headers_without_end_are_an_error(tmp_path):
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    (tmp_path / "00000.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(EarthGPTError, match="damaged"):
        Shards(tmp_path)


def test_compressed_shards_are_refused(tmp_path):
    with tarfile.open(tmp_path / "00000.tar", "w:gz") as tar:
        add(tar, "a.jpg", b"A")
    with pytest.raises(EarthGPTError, match="gzip; unpack it"):
        Shards(tmp_path)
    (tmp_path / "00000.tar").rename(tmp_path / "00000.tar.gz")
    with pytest.raises(EarthGPTError, match="unpacked"):
        Shards([tmp_path / "00000.tar.gz"])


def test_an_epoch_visits_shard_by_shard_and_has_every_sample_once(tmp_path):
    counts = [5, 0, 9, 3, 1]
    for number, count in enumerate(counts):
        make_shard(tmp_path, number, count)
    samples = Shards(tmp_path)
    order = samples.order(seed=1, epoch=0)
    assert sorted(order) == list(range(18))
    visited = [samples[index].key[:5] for index in order]
    assert sum(one != two for one, two in pairwise(visited)) == 3  # four shards hold samples
    assert list(order) != sorted(order)
    assert [order[position] for position in range(7, 18)] == list(samples.order(seed=1, epoch=0))[7:]
    assert list(pickle.loads(pickle.dumps(order))) == list(order)
    assert len({tuple(samples.order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
