"""A folder of your own with a YOLO text file for each image, and ``classes.txt`` or ``data.yaml``."""

from functools import partial

from earthgpt.datasets._folder import own, read

DATASET = own("YOLO folder", partial(read, kinds=("yolo",)))
