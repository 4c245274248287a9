"""Records of MMRS-1M on disk."""

import codecs
import json
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt import conversations
from earthgpt.conversations import Records, read, validate, write
from earthgpt.types import Conversation, EarthGPTError

HARBOR = Conversation.of(("data/harbor.png",), "How many ships?", "12", "Where?", "In the north.")
PAIR = Conversation.of(("a.png", "b.png"), "What changed?", "A straße was built.")
WORDS = Conversation.of((), "What is SAR?", "Radar.")
TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A ship."}]


@pytest.mark.parametrize("name", ["some.json", "some.jsonl"])
@pytest.mark.parametrize("some", [[], [HARBOR], [HARBOR, PAIR, WORDS]], ids=len)
def test_what_was_written_is_read(tmp_path, name, some):
    assert write(tmp_path / "new" / name, iter(some)) == len(some)
    assert list(read(tmp_path / "new" / name)) == some


def test_a_record_has_exactly_the_keys_of_the_release(tmp_path):
    write(tmp_path / "some.json", [HARBOR, PAIR, WORDS])
    one, two, three = json.loads((tmp_path / "some.json").read_text(encoding="utf-8"))
    assert one == {
        "image": "data/harbor.png",
        "conversations": [
            {"from": "human", "value": "How many ships?"},
            {"from": "gpt", "value": "12"},
            {"from": "human", "value": "Where?"},
            {"from": "gpt", "value": "In the north."},
        ],
    }
    assert two["image"] == ["a.png", "b.png"]
    assert list(three) == ["conversations"]


def test_json_lines_are_one_record_a_line_in_plain_utf8(tmp_path):
    write(tmp_path / "some.jsonl", [PAIR, WORDS])
    lines = (tmp_path / "some.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert "straße" in lines[0]


def test_a_path_is_written_with_slashes_and_an_address_as_it_is(tmp_path):
    write(tmp_path / "some.jsonl", [Conversation.of((Path("data") / "a.png", "https://x.org/b.png"), "What?", "Ships")])
    assert next(read(tmp_path / "some.jsonl")).images == ("data/a.png", "https://x.org/b.png")


def test_the_image_marks_of_other_records_are_removed_from_the_first_question_only(tmp_path):
    path = tmp_path / "some.jsonl"
    write(path, [Conversation.of(("a.png",), "<image>\nWhat?", "A ship", "<image>\nAgain?", "<image>")])
    texts = [message.text for message in next(read(path)).messages]
    assert texts == ["What?", "A ship", "<image>\nAgain?", "<image>"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "some.jsonl"
    write(path, [HARBOR])
    with pytest.raises(ValueError, match="an answer to every question"):
        write(path, [PAIR, Conversation.of((), "A question only")])
    assert list(read(path)) == [HARBOR]
    assert list(tmp_path.iterdir()) == [path]


def test_an_image_that_is_no_path_is_not_written(tmp_path):
    with pytest.raises(TypeError):
        write(tmp_path / "some.jsonl", [Conversation.of((object(),), "What?", "A ship")])


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ([], "the record"),
        ({"image": "a.png"}, "conversations: Field required"),
        ({"image": "a.png", "conversations": []}, "conversations"),
        ({"image": 7, "conversations": TURNS}, "image"),
        ({"ids": 1, "image": "a.png", "conversations": TURNS}, "ids: Extra inputs"),
        ({"conversations": [TURNS[0], {"from": "bot", "value": "A ship."}]}, r"conversations\.1\.from"),
        ({"conversations": [TURNS[0], {"from": "gpt", "value": None}]}, r"conversations\.1\.value"),
        ({"conversations": TURNS[::-1]}, "message 0 is from assistant"),
        ({"conversations": [*TURNS, TURNS[0]]}, "an answer to every question"),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_broken_record_is_an_error_with_its_file_and_number(tmp_path, suffix, record, wrong):
    path = tmp_path / f"some.{suffix}"
    good = {"image": "a.png", "conversations": TURNS}
    path.write_text(json.dumps([good, record]) if suffix == "json" else f"{json.dumps(good)}\n{json.dumps(record)}")
    records = read(path)
    assert next(records).images == ("a.png",)
    with pytest.raises(EarthGPTError, match=rf"some\.{suffix}, record 2: .*{wrong}"):
        next(records)


def test_a_file_that_is_missing_or_not_json_is_an_error(tmp_path):
    with pytest.raises(EarthGPTError, match="no file"):
        next(read(tmp_path / "some.json"))
    with pytest.raises(EarthGPTError, match=r"\.json or \.jsonl"):
        next(read(tmp_path / "some.txt"))
    (tmp_path / "some.json").write_text('{"image": "a.png"}')
    with pytest.raises(EarthGPTError, match=r"not a JSON list of records: it starts with '{'.*jsonl"):
        next(read(tmp_path / "some.json"))
    (tmp_path / "some.json").write_text("[{")
    with pytest.raises(EarthGPTError, match="not JSON: it is cut short in record 1"):
        list(read(tmp_path / "some.json"))
    (tmp_path / "some.json").write_text("")
    with pytest.raises(EarthGPTError, match="not a JSON list"):
        next(read(tmp_path / "some.json"))
    (tmp_path / "some.jsonl").write_text('{"image": "a.pn\n')
    with pytest.raises(EarthGPTError, match="record 1: not JSON"):
        next(read(tmp_path / "some.jsonl"))


LAYOUTS = {
    "one line": {"indent": None, "separators": (",", ":")},
    "indented": {"indent": 4},
    "escaped": {"ensure_ascii": True},
}
ODD = Conversation.of((), 'A "quoted" [bracket], {brace} and \\', '\\\\" ]}, 航空 \n')


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "BOM"])
def test_records_of_an_array_are_found_in_every_layout(tmp_path, layout, mark):
    path = tmp_path / "some.json"
    write(path, [PAIR, ODD, HARBOR, WORDS])
    path.write_bytes(mark + json.dumps(json.loads(path.read_text()), **LAYOUTS[layout]).encode() + b"\r\n ")
    assert list(Records(path)) == list(read(path)) == [PAIR, ODD, HARBOR, WORDS]


def test_lines_may_begin_with_a_byte_order_mark_and_end_without_a_line_end(tmp_path):
    path = tmp_path / "some.jsonl"
    write(path, [PAIR, HARBOR])
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes().rstrip())
    assert list(Records(path)) == [PAIR, HARBOR]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a"\\,[]{}\n航'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\,]}', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_the_places_of_records_are_those_that_json_sees(tmp_path_factory, values, chunk, indent, ascii_only):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(" \n" + json.dumps(values, indent=indent, ensure_ascii=ascii_only) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        patch.setattr(conversations, "_CHUNK", chunk)
        records = [conversations._bytes(file, *span) for span in conversations._spans(file, path)]
    assert [json.loads(record) for record in records] == values


@given(st.data())
def test_an_array_that_is_cut_anywhere_names_the_record_where_it_ends(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "cut.json"
    write(path, [PAIR, ODD, HARBOR])
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    record = data.draw(st.integers(1, 3))
    begin = sum(map(len, lines[:record]))
    path.write_bytes(content[: data.draw(st.integers(begin, begin + len(lines[record]) - 2))])
    with pytest.raises(EarthGPTError, match=rf"cut\.json .*cut short in record {record}\."):
        Records(path)
    assert validate(path).first["list without a proper end"] == (record,)
    assert [file.name for file in path.parent.glob("*cut.json*")] == ["cut.json"]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ('[{"a": 1}}', "record 1: not JSON: the brackets do not match"),
        ("[] []", "goes on after the end"),
        ("[1, 2] x", "goes on after the end of its list, after record 2"),
    ],
)
def test_an_array_that_does_not_end_well_is_an_error(tmp_path, content, wrong):
    (tmp_path / "some.json").write_text(content)
    with pytest.raises(EarthGPTError, match=wrong):
        Records(tmp_path / "some.json")


def test_a_line_that_is_cut_is_an_error_when_it_is_read_and_reported_by_validate(tmp_path):
    path = tmp_path / "some.jsonl"
    write(path, [PAIR, HARBOR])
    path.write_bytes(path.read_bytes()[:-9])
    records = Records(path)
    assert (len(records), records[0]) == (2, PAIR)
    with pytest.raises(EarthGPTError, match=r"some\.jsonl, record 2: not JSON"):
        records[-1]
    assert validate(path).first == {"broken JSON": (2,)}


def test_the_index_is_made_once_and_again_when_the_file_has_changed(tmp_path):
    path = tmp_path / "some.json"
    write(path, [PAIR, HARBOR])
    assert list(Records(path)) == [PAIR, HARBOR]
    index = tmp_path / "some.json.index"
    assert index.stat().st_size == 32 + 8 * 3  # header, two starts and the end
    made = index.stat().st_mtime_ns
    assert list(Records(path)) == [PAIR, HARBOR]
    assert index.stat().st_mtime_ns == made
    write(path, [WORDS, HARBOR, PAIR])
    assert list(Records(path)) == [WORDS, HARBOR, PAIR]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["some.json", "some.json.index"]


@pytest.mark.parametrize("damage", [b"", b"EGPTidx1", bytes(56)], ids=["empty", "short", "zeros"])
def test_an_index_that_does_not_fit_is_made_anew(tmp_path, damage):
    path, index = tmp_path / "some.json", tmp_path / "some.json.index"
    write(path, [PAIR, HARBOR])
    index.write_bytes(damage)
    assert list(Records(path)) == [PAIR, HARBOR]
    assert index.stat().st_size == 56


def test_records_need_no_place_for_an_index(tmp_path):
    write(tmp_path / "some.json", [PAIR, HARBOR])
    (tmp_path / "some.json.index").mkdir()  # nothing can be written here, for root neither
    records = Records(tmp_path / "some.json")
    assert list(records) == list(pickle.loads(pickle.dumps(records))) == [PAIR, HARBOR]
    assert len(list(tmp_path.iterdir())) == 2


def test_records_are_a_sequence(tmp_path):
    path = tmp_path / "some.jsonl"
    write(path, [PAIR, HARBOR, WORDS])
    path.write_bytes(b"\n" + path.read_bytes().replace(b"\n", b"\r\n\n"))  # blank lines do not count
    records = Records(path)
    assert len(records) == 3
    assert [records[0], records[1], records[-1]] == [PAIR, HARBOR, WORDS]
    assert records[1:] == [HARBOR, WORDS]
    assert list(records) == [PAIR, HARBOR, WORDS]
    with pytest.raises(IndexError):
        records[3]


def test_records_can_be_pickled(tmp_path):
    write(tmp_path / "some.jsonl", [PAIR, HARBOR])
    pickled = pickle.dumps(Records(tmp_path / "some.jsonl"))
    assert len(pickled) < 500  # no offsets in it
    assert list(pickle.loads(pickled)) == [PAIR, HARBOR]


def test_forks_read_at_the_same_time(tmp_path):
    some = [Conversation.of((), str(i), "x" * (i % 97)) for i in range(2000)]
    write(tmp_path / "some.json", some)
    records = Records(tmp_path / "some.json")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(records.__getitem__, range(2000), chunksize=7) == some


def test_a_reader_keeps_the_file_that_it_opened(tmp_path):
    write(tmp_path / "some.json", [PAIR, HARBOR])
    records = Records(tmp_path / "some.json")
    write(tmp_path / "some.json", [WORDS])
    assert list(records) == [PAIR, HARBOR]


def test_a_good_file_has_no_defects(tmp_path):
    write(tmp_path / "some.json", [HARBOR, PAIR, WORDS])
    told = []
    found = validate(tmp_path / "some.json", progress=lambda *done: told.append(done))
    assert (found.records, found.turns, found.images) == (3, 4, 3)
    assert found.defects == found.first == {}
    size = os.path.getsize(tmp_path / "some.json")  # noqa: PTH202
    assert told[-1] == (size, size)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_validate_counts_every_defect_and_names_its_first_records(tmp_path, suffix):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").touch()
    good = {"image": "data/a.png", "conversations": TURNS}
    question, answer = TURNS
    records = [
        good,
        {**good, "ids": 7},
        {"image": "data/a.png"},
        {**good, "conversations": []},
        {**good, "conversations": [question]},
        {**good, "conversations": [answer, question]},
        {**good, "conversations": [question, {"from": "gpt", "value": " "}]},
        {**good, "conversations": [question, {"from": "bot", "value": "A ship."}]},
        {**good, "image": "data/b.png"},
        {**good, "image": "data\\a.png"},
        {**good, "image": ["/etc/passwd", "data/a.png"]},
        {**good, "image": "data/../../a.png"},
        {**good, "image": "C:\\a.png"},
        {**good, "image": "file:///etc/passwd"},
        {**good, "image": "data/" + "x" * 300},
        {**good, "image": "https://x.org/a.png"},
        good,
        good,
    ]
    lines = [json.dumps(record) for record in records]
    lines[2] = '{"image": "data/a.png", "conversations": nothing}'
    path = tmp_path / f"some.{suffix}"
    path.write_text("[" + ",\n".join(lines) + "]" if suffix == "json" else "\n".join(lines))
    found = validate(path, images=tmp_path)
    assert found.first == {
        "wrong keys": (2,),
        "broken JSON": (3,),
        "no turns": (4,),
        "odd number of turns": (5,),
        "roles that do not alternate": (6,),
        "empty answer": (7,),
        "wrong values": (8,),
        "missing image": (9, 15),
        "backslash in a path": (10, 13),
        "path out of the folder": (11, 12, 13, 14),
        "the same as a record before": (17, 18),
    }
    assert found.defects == {kind: len(numbers) for kind, numbers in found.first.items()}
    assert found.records == 18


def test_validate_names_five_records_and_counts_all(tmp_path):
    (tmp_path / "some.jsonl").write_text("7\n" * 9)
    found = validate(tmp_path / "some.jsonl")
    assert found.defects == {"wrong keys": 9, "the same as a record before": 8}
    assert found.first == {"wrong keys": (1, 2, 3, 4, 5), "the same as a record before": (2, 3, 4, 5, 6)}


def test_validate_wants_a_file_with_a_list(tmp_path):
    with pytest.raises(EarthGPTError, match="no file"):
        validate(tmp_path / "some.json")
    (tmp_path / "some.json").write_text('{"image": "a.png"}')
    with pytest.raises(EarthGPTError, match="not a JSON list"):
        validate(tmp_path / "some.json")
