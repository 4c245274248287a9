"""Files of data sets are found however they were unpacked."""

import pytest

from earthgpt import folders
from earthgpt.types import EarthGPTError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("folder", [".", "SET", "SET/SET", "SET/SET/lists"])
def test_a_layout_is_found_from_any_folder_about_it_or_inside(folder, tmp_path):
    touch(tmp_path / "SET" / "SET" / "lists" / "train.txt", tmp_path / "SET" / "SET" / ".x" / "lists" / "train.txt")
    found = folders.layout(tmp_path / folder, "lists/train.txt")
    assert found == tmp_path / "SET" / "SET" / "lists" / "train.txt"
    assert folders.search(tmp_path / folder, "lists") == found.parent


def test_an_unknown_layout_says_what_was_looked_for_and_what_there_is(tmp_path):
    touch(*(tmp_path / f"{i}.txt" for i in range(9)))
    with pytest.raises(EarthGPTError) as caught:
        folders.layout(tmp_path, "a.json", "b/*.json")
    holds = ", ".join(f"{i}.txt" for i in range(8))
    assert str(caught.value) == f"No file or folder a.json or b/*.json in {tmp_path}; it holds {holds}, ...."


def test_of_a_folder_in_another_of_its_name_the_inner_one_is_taken(tmp_path):
    touch(tmp_path / "images" / "images" / "a.png", tmp_path / "Data" / "b.png")
    assert folders.either(tmp_path, "imgs", "images") == tmp_path / "images" / "images"
    assert folders.either(tmp_path, "Data", "images") == tmp_path / "Data"
    assert folders.either(tmp_path, "imgs", "pictures") == tmp_path / "imgs"
