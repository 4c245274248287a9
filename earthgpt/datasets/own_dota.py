"""A folder of your own with a DOTA text file for each image: oriented boxes."""

from functools import partial

from earthgpt.datasets._folder import own, read

DATASET = own("DOTA folder", partial(read, kinds=("dota",)))
