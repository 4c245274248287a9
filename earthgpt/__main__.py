"""``python -m earthgpt``: the command line."""

from earthgpt.cli import main

main()
