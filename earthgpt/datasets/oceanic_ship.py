"""Oceanic ship: ships in short-wave and long-wave infrared images and in fused ones."""

from earthgpt.datasets._folder import infrared

DATASET = infrared(
    title="Oceanic ship",
    homepage="http://www.gxzx.sdu.edu.cn/info/1133/2174.htm",
    citation="Center for Optics Research and Engineering, Shandong University, 2020",
    turns=2_505,
    classes=("ship",),
)
