"""The name of a sample says what part it is held out with, so it is the same whichever folder is named as the root."""

import re
from pathlib import Path

import pytest
from fakes import FAKES

from earthgpt import lookup
from earthgpt.lookup import find

UNDIVIDED = [name for name in lookup.names("datasets") if find("datasets", name).splits == ("all",)]
# The folder of a set in its fake download, where that is not the download itself.
FOLDERS = {
    "nwpu_resisc45": "NWPU-RESISC45",
    "nwpu_vhr10": "NWPU VHR-10 dataset",
    "ucas_aod": "UCAS_AOD",
    "ucmerced": "UCMerced_LandUse",
    "whu_rs19": "WHU-RS19",
}


@pytest.mark.parametrize("name", [*UNDIVIDED, "hrsid"])  # recipes hold a part of HRSID out of train
def test_names_are_the_same_from_the_folder_of_a_set_and_from_the_one_above(name, tmp_path):
    dataset, root = find("datasets", name), tmp_path / "download" / FOLDERS.get(name, ".")
    FAKES[name](tmp_path / "download")
    names = [sample.name for sample in dataset.read(root, dataset.splits[0])]
    assert names and names == [sample.name for sample in dataset.read(root.parent, dataset.splits[0])]


def test_every_data_set_is_read_by_a_test():
    """Each is named in one of these files, beside what its download looks like; own_* are named by what they hold."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert [
        name for name in lookup.names("datasets") if name[:4] != "own_" and not re.search(rf"\b{name}\b", text)
    ] == []
