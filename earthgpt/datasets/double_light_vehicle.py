"""Double-light-vehicle: street scenes in thermal images that are paired with visible ones."""

from earthgpt.datasets._folder import infrared

# MMRS-1M seems to use the thermal images only. What the folders of the others are called is a guess.
DATASET = infrared(
    title="Double-light-vehicle",
    homepage="https://openai.raytrontek.com/apply/Double_light_vehicle.html",
    citation="InfiRay, 2021",
    turns=7_922,
    skipped=("visible", "vis", "rgb", "可见光"),
)
