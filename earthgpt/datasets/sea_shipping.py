"""Sea-shipping: ships of seven kinds in thermal images from sea and shore."""

from earthgpt.datasets._folder import infrared

DATASET = infrared(
    title="Sea-shipping",
    homepage="https://openai.iraytek.com/apply/Sea_shipping.html",
    citation="InfiRay, 2021",
    turns=16_023,
    classes=("liner", "bulk carrier", "warship", "sailboat", "canoe", "container ship", "fishing boat"),
)
