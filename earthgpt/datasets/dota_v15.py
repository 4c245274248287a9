"""DOTA 1.5: the images of 1.0, labelled anew down to ten pixels, and container cranes."""

from earthgpt.datasets._dota import card

DATASET = card("1.5", ("container crane",), {"train": 1_411, "val": 458})
