"""A folder of your own with a LabelMe JSON file for each image."""

from functools import partial

from earthgpt.datasets._folder import own, read

DATASET = own("LabelMe folder", partial(read, kinds=("labelme",)))
