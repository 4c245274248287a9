"""What is written is there whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from earthgpt.files import whole_file, whole_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("several", [False, True])
def test_a_file_has_its_name_once_it_is_whole(tmp_path, several):
    path = tmp_path / "ships.csv"
    path.write_text("old")
    with whole_file(path, several) as fresh:
        fresh.write_text("new")
        assert path.read_text() == "old" and fresh.parent == tmp_path
    assert path.read_text() == "new" and names(tmp_path) == ["ships.csv"]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_file_that_was_there_and_nothing_beside_it(tmp_path, several, error):
    path = tmp_path / "ships.csv"
    path.write_text("old")
    with pytest.raises(error), whole_file(path, several) as fresh:
        fresh.write_text("ne")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["ships.csv"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_full_disk_is_named_by_what_was_written_on_it(tmp_path, whole):
    with pytest.raises(OSError, match="No space left") as full, whole(tmp_path / "ships"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert full.value.filename == str(tmp_path / "ships")
    with pytest.raises(ConnectionResetError) as other, whole(tmp_path / "ships"):
        raise ConnectionResetError(errno.ECONNRESET, "of something else")
    assert other.value.filename is None


def test_what_went_wrong_is_told_not_that_there_is_nothing_to_clean_up(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "missing" / "ships.csv") as fresh:
        fresh.write_text("new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), whole_file(tmp_path / "folder") as fresh:
        fresh.write_text("new")
    assert names(tmp_path) == ["folder"]


def test_a_file_that_was_cut_short_is_begun_anew_and_has_the_usual_permissions(tmp_path):
    path = tmp_path / "ships.csv"
    (tmp_path / ".ships.csv.new").write_text("a longer text of a process that was killed")
    (tmp_path / "usual").write_text("")
    with whole_file(path) as fresh:
        fresh.write_text("new")
    assert path.read_text() == "new" and names(tmp_path) == ["ships.csv", "usual"]
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_several_writers_of_a_file_do_not_write_into_one_another(tmp_path):
    path = tmp_path / "records.index"
    with whole_file(path, several=True) as one, whole_file(path, several=True) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other and one.read_text() == "one"
    assert path.read_text() == "one" and names(tmp_path) == ["records.index"]


def test_a_folder_takes_the_place_of_another_once_it_is_whole(tmp_path):
    folder = tmp_path / "run" / "model"
    for weights in ("first", "second"):
        with whole_folder(folder) as fresh:
            (fresh / weights).write_text("")
    assert names(folder) == ["second"] and names(folder.parent) == ["model"]


def test_what_fails_leaves_the_folder_that_was_there(tmp_path):
    folder = tmp_path / "model"
    with whole_folder(folder) as fresh:
        (fresh / "weights").write_text("")
    with pytest.raises(OSError), whole_folder(folder) as fresh:
        (fresh / "other").write_text("")
        raise OSError
    assert names(folder) == ["weights"] and names(tmp_path) == ["model"]


def test_what_killed_writers_of_a_folder_left_is_cleared(tmp_path):
    (tmp_path / "model.new" / "half").mkdir(parents=True)
    (tmp_path / "model.old" / "before").mkdir(parents=True)
    with whole_folder(tmp_path / "model") as fresh:
        (fresh / "whole").mkdir()
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["whole"]
