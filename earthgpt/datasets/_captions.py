"""Sets of captions in the form of Karpathy and Fei-Fei's splits."""

from earthgpt.formats import captions
from earthgpt.image_files import size_if_there
from earthgpt.types import Sample, Sensor


def described(listing, images, split, defects):
    """Optical images of a folder with the captions that a listing has of them."""
    for file, texts in captions(listing, split, defects):
        size = size_if_there(images / file, defects)
        yield Sample(images / file, file, size, Sensor.OPTICAL, captions=texts)
