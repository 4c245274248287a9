"""Records of MMRS-1M on disk."""

import json
import pickle
from pathlib import Path

import pytest

from earthgpt.conversations import Records, read, write
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
        ({"id": 1, "image": "a.png", "conversations": TURNS}, "id: Extra inputs"),
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
    with pytest.raises(EarthGPTError, match="holds a dict"):
        next(read(tmp_path / "some.json"))
    (tmp_path / "some.json").write_text("[{")
    with pytest.raises(EarthGPTError, match="not JSON"):
        next(read(tmp_path / "some.json"))
    (tmp_path / "some.jsonl").write_text('{"image": "a.pn\n')
    with pytest.raises(EarthGPTError, match="record 1: not JSON"):
        next(read(tmp_path / "some.jsonl"))


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
    assert list(pickle.loads(pickle.dumps(Records(tmp_path / "some.jsonl")))) == [PAIR, HARBOR]
