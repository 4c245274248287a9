"""A folder of your own with a VOC XML (or roLabelImg) file for each image."""

from functools import partial

from earthgpt.datasets._folder import own, read

DATASET = own("VOC folder", partial(read, kinds=("voc",)))
