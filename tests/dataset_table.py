"""The table of data sets in the docs, from their cards. ``python tests/dataset_table.py`` renews it."""

from pathlib import Path

from earthgpt import lookup

PAGE = Path(__file__).parents[1] / "docs" / "datasets.md"
MARK = "<!-- from the cards: python tests/dataset_table.py -->\n"
SHORT = {
    "scene_classification": "classes",
    "image_captioning": "captions",
    "region_captioning": "regions",
    "visual_question_answering": "questions",
    "visual_grounding": "grounding",
    "object_detection": "detection",
}


def table() -> str:
    """A row for each data set that has an owner; those of MMRS-1M first, then by sensor and name."""
    cards = {name: lookup.find("datasets", name) for name in lookup.names("datasets") if not name.startswith("own_")}
    rows = []
    for name, card in sorted(cards.items(), key=lambda one: (one[1].paper is None, one[1].sensors, one[0])):
        title = f"[{card.title}]({card.homepage})" if card.homepage.startswith("http") else card.title
        images = card.counts.get("total") or sum(card.counts.values())
        turns = "" if card.paper is None else f"{card.paper.turns:,}" if card.paper.turns else "evaluated on"
        tasks = ", ".join(SHORT[task] for task in card.tasks)
        numbers = (f"{images:,}" if images else "", turns)
        cells = (title, f"`{name}`", ", ".join(card.sensors), tasks, *numbers, card.licence.replace("|", "\\|"))
        rows.append("| " + " | ".join(cells) + " |")
    header = "| data set | name | sensor | what is known of its images | images | turns in Table I | licence |"
    return "\n".join((header, "|---|---|---|---|---:|---:|---|", *rows)) + "\n"


def page() -> str:
    """The page as it should be: its own text, then the table."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + table()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
