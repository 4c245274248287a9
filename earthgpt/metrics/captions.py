"""How close captions are to reference captions: BLEU, ROUGE-L and CIDEr-D, with the semantics of pycocoevalcap.

One thing differs: words are found by a regular expression (lower case; punctuation is dropped, hyphens, apostrophes
and points inside a word stay) and not by the Java tokenizer of Stanford CoreNLP. It differs on clitics (``it's`` is
one word here) and on abbreviations; captions of remote sensing images hardly have any.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

ORDERS = (1, 2, 3, 4)
_WORD = re.compile(r"\w+(?:[-'’.]\w+)*")
_BETA = 1.2
_SIGMA = 6.0

Words = list[str]
Ngrams = Counter[tuple[str, ...]]


def words(text: str) -> Words:
    """The words of a caption, in lower case and without punctuation."""
    return _WORD.findall(text.lower())


def caption_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """``bleu_1`` .. ``bleu_4`` and ``rouge_l`` in [0, 1], ``cider_d`` in [0, 10].

    ``references`` are the true captions of each text, one or more. CIDEr-D weighs words by how few of these images
    they are said of, so that it is 0 for a single image and compares only over the same set. An empty text scores 0;
    all are NaN when there are no texts. Raises ValueError when the lengths differ or a text has no reference.
    """
    if len(texts) != len(references):
        raise ValueError(f"There are {len(texts)} texts for {len(references)} lists of references.")
    if not all(references):
        raise ValueError("Every text needs at least one reference.")
    said = [words(text) for text in texts]
    true = [[words(reference) for reference in group] for group in references]
    bleu = _bleu(said, true)
    return {
        **{f"bleu_{order}": bleu[order - 1] for order in ORDERS},
        "rouge_l": _mean([_rouge_l(text, group) for text, group in zip(said, true, strict=True)]),
        "cider_d": _cider_d(said, true),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _ngrams(text: Words, order: int) -> Ngrams:
    return Counter(zip(*(text[start:] for start in range(order)), strict=False))


def _all_ngrams(text: Words) -> set[tuple[str, ...]]:
    return set().union(*(_ngrams(text, order) for order in ORDERS))


def _bleu(said: list[Words], true: list[list[Words]]) -> list[float]:
    """Corpus BLEU of each order (Papineni et al., 2002); the closest reference counts for length, ties the shorter."""
    if not said:
        return [math.nan] * len(ORDERS)
    length = sum(map(len, said))
    closest = sum(
        min((abs(len(reference) - len(text)), len(reference)) for reference in group)[1]
        for text, group in zip(said, true, strict=True)
    )
    # The two small numbers are those of pycocoevalcap: they keep 0 / 0 at about 0.
    brevity = min(1.0, math.exp(1 - (closest + 1e-9) / (length + 1e-15))) if length else 0.0
    product, scores = 1.0, []
    for order in ORDERS:
        matched = total = 0
        for text, group in zip(said, true, strict=True):
            counts, most = _ngrams(text, order), Counter()
            for reference in group:
                most |= _ngrams(reference, order)
            matched += (counts & most).total()
            total += counts.total()
        product *= (matched + 1e-15) / (total + 1e-9)
        scores.append(product ** (1 / order) * brevity)
    return scores


def _common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        above = row
        row = [0]
        for i, candidate in enumerate(other):
            row.append(above[i] + 1 if word == candidate else max(above[i + 1], row[i]))
    return row[-1]


def _rouge_l(text: Words, group: list[Words]) -> float:
    """F of the best precision and the best recall over the references, with beta 1.2 (Lin, 2004)."""
    common = [_common(text, reference) for reference in group]
    if not any(common):
        return 0.0
    precision = max(common) / len(text)
    recall = max(count / len(reference) for count, reference in zip(common, group, strict=True) if reference)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _cider_d(said: list[Words], true: list[list[Words]]) -> float:
    """CIDEr-D with sigma 6, times 10 (Vedantam et al., 2015); document frequency over the images of ``true``."""
    frequency = Counter(ngram for group in true for ngram in set().union(*map(_all_ngrams, group)))

    def weigh(text: Words, order: int) -> tuple[dict[tuple[str, ...], float], float]:
        """The weights of the n-grams of a text, and their Euclidean norm."""
        counts = _ngrams(text, order)
        vector = {ngram: n * math.log(len(true) / max(1, frequency[ngram])) for ngram, n in counts.items()}
        return vector, math.hypot(*vector.values())

    def similarity(text: Words, reference: Words, order: int) -> float:
        (one, norm), (other, other_norm) = weigh(text, order), weigh(reference, order)
        dot = sum(min(weight, other[ngram]) * other[ngram] for ngram, weight in one.items() if ngram in other)
        return dot / (norm * other_norm) if dot else 0.0

    scores = []
    for text, group in zip(said, true, strict=True):
        score = 0.0
        for reference in group:
            penalty = math.exp(-((len(text) - len(reference)) ** 2) / (2 * _SIGMA**2))
            score += penalty * sum(similarity(text, reference, order) for order in ORDERS)
        scores.append(10 * score / len(group) / len(ORDERS))
    return _mean(scores)
