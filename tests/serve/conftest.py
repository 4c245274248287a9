"""Servers with the tiny model of random weights, and pictures to send to them."""

import numpy as np
import pytest

pytest.importorskip("fastapi")
from servers import png, running

from earthgpt.assistant import EarthGPT


@pytest.fixture(scope="session")
def assistant(shared_model, processor):
    """The tiny model and its processor."""
    return EarthGPT(shared_model, processor)


@pytest.fixture(scope="session")
def served(assistant, tmp_path_factory):
    """A server for all tests that leave it as it is."""
    with running(assistant, jobs=tmp_path_factory.mktemp("jobs")) as found:
        yield found


@pytest.fixture(scope="session")
def pictures():
    """Four pictures of noise, 60 pixels wide and 40 high, as PNG."""
    return [png(values) for values in np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), np.uint8)]
