"""A folder of your own with images and COCO JSON files."""

from functools import partial

from earthgpt.datasets._folder import own, read

DATASET = own("COCO folder", partial(read, kinds=("coco",)))
