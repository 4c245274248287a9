"""English that several tasks share: plurals, number words, places, and phrases that fit one object only."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from earthgpt.tasks import Facts
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region, Sample

COUNT_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_IRREGULAR = {"person": "people", "aircraft": "aircraft", "lens": "lenses", "gas": "gases"}
_REGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}
_FIELD = r"(\{\w+\})"
_HISSING = ("s", "x", "z", "ch", "sh")


def count_word(count: int) -> str:
    """``no``, ``one`` .. ``ten``, then digits, as in MMRS-1M."""
    return COUNT_WORDS[count] if count < len(COUNT_WORDS) else str(count)


def plural(noun: str) -> str:
    """The plural of a class name; only its last word changes, and one in the plural stays."""
    head, space, last = noun.rpartition(" ")
    if last.lower() in _IRREGULAR:
        last = _IRREGULAR[last.lower()]
    elif _is_plural(last) or (last.isupper() and last.endswith("S")):
        return noun
    elif last.endswith(_HISSING):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return head + space + last


def singular(noun: str) -> str:
    """The class name behind a plural; the inverse of ``plural`` for the class names of every data set."""
    head, space, last = noun.rpartition(" ")
    if last.lower() in _REGULAR:
        last = _REGULAR[last.lower()]
    elif last.endswith("ies") and len(last) > 4:
        last = last[:-3] + "y"
    elif last.endswith(("sses", "buses", "xes", "zes", "ches", "shes")):
        last = last[:-2]
    elif last.endswith("s") and not last.endswith("ss"):
        last = last[:-1]
    return head + space + last


def _is_plural(word: str) -> bool:
    """In small letters: GPS is none."""
    if word.lower() in (*_IRREGULAR, *_REGULAR):
        return word.lower() in _REGULAR
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))


def class_name(noun: str) -> str:
    """The class that somebody means who may have written its plural: ``ship`` for ``ships``, and for ``ship``."""
    return singular(noun) if _is_plural(noun.rpartition(" ")[2]) else noun


def class_meant(noun: str, classes: Iterable[str]) -> str | None:
    """The class of some that is meant by who may have written the plural of what is in the singular there, or the
    other way round, with other capitals, or in one word; None where none is. Whoever reads "two axes" cannot know of
    axe and ax."""
    for form, spelled in zip(_FORMS, _spelled(tuple(classes)), strict=True):
        if found := spelled.get(form(noun)):
            return found
    return None


@lru_cache(64)
def _spelled(classes: tuple[str, ...]) -> list[dict[str, str]]:
    """The classes by each of their forms."""
    return [{form(name): name for name in reversed(classes)} for form in _FORMS]


def _folded(noun: str) -> str:
    return singular(plural(re.sub(r"[\s_-]+", "", noun).lower()))


_FORMS = (str, class_name, str.lower, _folded)


def classes_meant(choices: Sequence[str], classes: Iterable[str]) -> list[str] | None:
    """The class that each of some choices means (``class_meant``); None unless all mean one, and none the same."""
    classes, found = tuple(classes), []
    for choice in choices:
        found.append(class_meant(choice, classes))
        if found[-1] is None:
            return None
    return found if len(set(found)) == len(found) else None


def class_names(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """The classes that somebody gives, each once whatever its capitals: text with commas or semicolons between them, or
    a line for each, or one after the other. None, which means all, stays None; raises EarthGPTError where none is left,
    and for what is no text."""
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise EarthGPTError(f"Classes are names with commas between them, or a list, not a {type(given).__name__}.")
    given = re.split(r"[,;\n]", given) if isinstance(given, str) else list(given)
    if wrong := [name for name in given if not isinstance(name, str)]:
        raise EarthGPTError(f"A class is one text, not a {type(wrong[0]).__name__}.")
    names: dict[str, str] = {}  # of two that differ in capitals alone the first
    for name in map(str.strip, given):
        names.setdefault(name.lower(), name)
    found = tuple(name for name in names.values() if name)
    if not found:
        raise EarthGPTError("The list of classes is empty; give at least one, or none at all.")
    return found


def with_article(noun: str) -> str:
    """``a ship``, ``an airplane``."""
    return ("an " if noun[:1].lower() in "aeiou" else "a ") + noun


def place(box: Box | OrientedBox) -> str:
    """Where the middle of a box lies on a three by three board: ``top left``, ``center``, ``bottom``, ..."""
    x, y = box.center
    column = ("left", "", "right")[min(int(x * 3), 2)]
    row = ("top", "", "bottom")[min(int(y * 3), 2)]
    return f"{row} {column}".strip() or "center"


LONGEST = 2000  # characters of a question that is understood


def single(regions: Sequence[Region]) -> list[Region]:
    """The regions that are the only one of their class."""
    counts = Counter(region.label for region in regions)
    return [region for region in regions if counts[region.label] == 1]


def whole(sample: Sample) -> list[Region]:
    """The regions of classes of which all objects are stated whole: of others a phrase may mean one that is not stated,
    or that the edge hides."""
    if not (sample.complete or sample.cut):
        return []
    hidden = {region.label for region in sample.cut}
    return [region for region in sample.regions if region.label not in hidden]


def read_back(templates: Iterable[str], text: str) -> dict[str, str] | None:
    """What stands in the fields of the first of some templates that a text was made of; None where there is none, and
    for texts beyond ``LONGEST``, in which fields would be looked for in too many places."""
    if len(text) > LONGEST:
        return None
    for template in templates:
        parts = (f"(?P<{part[1:-1]}>.+)" if part[:1] == "{" else re.escape(part) for part in re.split(_FIELD, template))
        if found := re.fullmatch("".join(parts), text.strip(), re.IGNORECASE | re.DOTALL):
            return found.groupdict()
    return None


def likely(region: Region) -> float:
    """How likely it is that a region is there: its score; 1 for a fact without one."""
    return 1.0 if region.score is None else region.score


SURE = 0.5  # the score from which an object is taken to be there: it is then as likely there as not


def sure(regions: Sequence[Region], least: float = SURE) -> list[Region]:
    """The regions that are at least that likely."""
    return [region for region in regions if likely(region) >= least]


def alone(regions: Iterable[Region], least: float = SURE) -> float:
    """How likely it is that none of the regions is there that are less likely than ``least``."""
    return math.prod(1 - likely(region) for region in regions if likely(region) < least)


SUPERLATIVES = ("leftmost", "rightmost", "topmost", "bottommost", "largest")


def _edge(which: str, box: Box | OrientedBox) -> float:
    x, y = box.center
    return {"leftmost": -x, "rightmost": x, "topmost": -y, "bottommost": y, "largest": box.area**0.5}[which]


def named(phrase: str, facts: Facts) -> tuple[str, str] | None:
    """The superlative ("" for none) and the class of a phrase of the kinds of ``expressions``; None for one of another
    kind, or of a class that was not looked for."""
    which, noun = superlative_and_noun(phrase)
    meant = class_meant(noun, facts.classes)
    return None if meant is None else (which, meant)


def superlative_and_noun(phrase: str) -> tuple[str, str]:
    """The two parts of a phrase of the kinds of ``expressions``; "" and all but the article without superlative."""
    words = phrase.strip().rstrip(".").removeprefix("the ").removeprefix("The ")
    which, _, noun = words.partition(" ")
    return (which, noun) if which in SUPERLATIVES and noun else ("", words)


def described(which: str, label: str, facts: Facts) -> Region | None:
    """The sure region of a class that is the one with a superlative; without one, that with the highest score."""
    group = [region for region in sure(facts.regions) if region.label == label]
    return max(group, key=lambda one: _edge(which, one.box) if which else likely(one), default=None)


_MARGIN = 0.04  # of the image's side: what is ahead of the next by less is not clearly the leftmost


def expressions(regions: Sequence[Region]) -> list[Region]:
    """Phrases derived from boxes that are true of one region only: ``the ship``, ``the leftmost ship``.

    A superlative is used only when it is clear.
    """
    phrases = [Region(region.box, f"the {class_name(region.label)}") for region in single(regions)]
    for label in dict.fromkeys(region.label for region in regions):
        group = [region for region in regions if region.label == label]
        if len(group) < 2:
            continue
        for which in SUPERLATIVES:
            second, first = sorted(group, key=lambda region: _edge(which, region.box))[-2:]
            if _edge(which, first.box) - _edge(which, second.box) >= _MARGIN:
                phrases.append(Region(first.box, f"the {which} {class_name(label)}"))
    return phrases
