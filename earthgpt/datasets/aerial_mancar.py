"""Aerial-mancar: people and vehicles in thermal images from the air."""

from earthgpt.datasets._folder import infrared

DATASET = infrared(
    title="Aerial-mancar",
    homepage="https://openai.raytrontek.com/apply/Aerial_mancar.html",
    citation="InfiRay, 2021",
    turns=33_051,
)
