"""Infrared-security: people and vehicles before fixed thermal cameras."""

from earthgpt.datasets._folder import infrared

DATASET = infrared(
    title="Infrared-security",
    homepage="https://openai.iraytek.com/apply/Infrared_security.html",
    citation="InfiRay, 2021",
    turns=17_234,
)
