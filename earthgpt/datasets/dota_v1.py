"""DOTA 1.0: 15 classes of objects in large aerial images, oriented boxes."""

from earthgpt.datasets._dota import card

DATASET = card("1.0", (), {"train": 1_411, "val": 458})
