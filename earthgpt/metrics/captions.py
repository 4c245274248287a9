"""How close captions are to reference captions: BLEU, METEOR, ROUGE-L and CIDEr-D, with the semantics of pycocoevalcap.

BLEU, ROUGE-L and CIDEr-D are worked out here and equal pycocoevalcap's on the same tokens. METEOR is pycocoevalcap's
own and needs Java. SPICE is left out: it needs CoreNLP 3.6, which no package brings, and an old Java.

Tokens are found in one of two ways:

- ``plain``: a regular expression. Lower case; punctuation is dropped, but not hyphens, apostrophes and points inside a
  word.
- ``ptb``: the tokenizer of Stanford CoreNLP 3.4.1 as pycocoevalcap runs it, which published figures are made with. It
  needs Java and the extra ``eval``.

They differ on clitics (``there's`` is one token in ``plain``, ``there`` and ``'s`` in ``ptb``), brackets (``-lrb-`` in
``ptb``), slashes, symbols and abbreviations: in 12 of 5,000 captions of RSICD.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain

import numpy as np

from earthgpt.metrics.statistics import mean
from earthgpt.types import EarthGPTError

ORDERS = (1, 2, 3, 4)
TOKENIZERS = ("plain", "ptb")
_WORD = re.compile(r"\w+(?:[-'’.]\w+)*")
_BETA = 1.2
_SIGMA = 6.0
# The two small numbers of pycocoevalcap, which keep 0 / 0 at about 0.
_TINY, _SMALL = 1e-15, 1e-9

Tokens = Sequence[str]


@dataclass(frozen=True)
class CaptionScores:
    """What ``caption_scores`` and ``token_scores`` find for each of N captions.

    ``matched`` and ``possible`` are [N, 4]: how many n-grams of each order the references have too, and all of them.
    ``lengths`` are numbers of tokens, ``closest`` those of the reference of the nearest length, of equals the shorter.
    ``rouge_l`` is in [0, 1]; ``cider_d`` in [0, 10]; ``meteor`` in [0, 1] of all captions together, None without it.
    ``left_out`` says of each metric that is missing why.
    """

    matched: np.ndarray
    possible: np.ndarray
    lengths: np.ndarray
    closest: np.ndarray
    rouge_l: np.ndarray
    cider_d: np.ndarray
    meteor: float | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def summary(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """``bleu_1`` .. ``bleu_4``, ``rouge_l`` in [0, 1] and ``cider_d`` in [0, 10]; NaN when there are no captions.

        ``weights`` say how often each caption counts; what CIDEr-D takes for a rare word stays that of all captions.
        Without them ``meteor`` is there too if it was worked out: it is no mean over captions.
        """
        bleu = self._bleu(np.ones(len(self.lengths), int) if weights is None else weights)
        figures = {f"bleu_{order}": value for order, value in zip(ORDERS, bleu, strict=True)}
        figures |= {"rouge_l": mean(self.rouge_l, weights), "cider_d": mean(self.cider_d, weights)}
        return figures if self.meteor is None or weights is not None else figures | {"meteor": self.meteor}

    def _bleu(self, weights: np.ndarray) -> list[float]:
        """Corpus BLEU of each order (Papineni et al., 2002)."""
        if not weights.sum():
            return [math.nan] * len(ORDERS)
        length, closest = weights @ self.lengths, weights @ self.closest
        brevity = min(1.0, math.exp(1 - (closest + _SMALL) / (length + _TINY)))
        precisions = (weights @ self.matched + _TINY) / (weights @ self.possible + _SMALL)
        return [float(math.prod(precisions[:order]) ** (1 / order) * brevity) for order in ORDERS]


def tokenize(texts: Sequence[str], tokenizer: str = "plain") -> list[list[str]]:
    """The tokens of each text; see the module for the two ways.

    Raises ValueError for another tokenizer, and EarthGPTError when "ptb" lacks Java or pycocoevalcap.
    """
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"A tokenizer is one of {', '.join(TOKENIZERS)}; not {tokenizer!r}.")
    if tokenizer == "plain":
        return [_WORD.findall(text.lower()) for text in texts]
    if missing := java_missing():
        raise EarthGPTError(f"The tokenizer 'ptb' cannot be used: {missing}. 'plain' needs neither.")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # One line for each text; without a word on it the tokenizer would lose count of the lines.
    lines = {i: [{"caption": " ".join(text.split())}] for i, text in enumerate(texts) if text.strip()}
    found = PTBTokenizer().tokenize(lines) if lines else {}
    return [found[i][0].split() if i in found else [] for i in range(len(texts))]


def caption_scores(
    texts: Sequence[str | None],
    references: Sequence[Sequence[str]],
    tokenizer: str = "plain",
    meteor: bool = False,
) -> CaptionScores:
    """Compares each text with its true captions, one or more. An empty text and None score 0.

    ``meteor`` asks for METEOR too (15 seconds); where it cannot be had ``left_out`` says why.
    CIDEr-D weighs words by how few of these images they are said of, so that it is 0 for a single image and compares
    only over the same set. Raises ValueError when the lengths differ, a text has no reference, or for another
    tokenizer, and EarthGPTError when "ptb" lacks Java or pycocoevalcap.
    """
    if len(texts) != len(references):
        raise ValueError(f"There are {len(texts)} texts for {len(references)} lists of references.")
    if not all(references):
        raise ValueError("Every text needs at least one reference.")
    tokens = iter(tokenize([*(text or "" for text in texts), *chain.from_iterable(references)], tokenizer))
    said = [next(tokens) for _ in texts]
    return token_scores(said, [[next(tokens) for _ in group] for group in references], meteor)


def token_scores(said: Sequence[Tokens], true: Sequence[Sequence[Tokens]], meteor: bool = False) -> CaptionScores:
    """The same of texts that were cut into tokens before: ``true`` are the references of each, one or more.

    Raises ValueError when the lengths differ or a text has no reference.
    """
    if len(said) != len(true):
        raise ValueError(f"There are {len(said)} texts for {len(true)} lists of references.")
    if not all(true):
        raise ValueError("Every text needs at least one reference.")
    left_out = {"spice": "it needs Stanford CoreNLP 3.6.0 and an old Java, which no package brings"}
    if not meteor:
        left_out["meteor"] = "it was not asked for"
    elif missing := java_missing():
        left_out["meteor"] = missing
    references = list(chain.from_iterable(true))
    owner = np.repeat(np.arange(len(true)), [len(group) for group in true])  # the text of each reference
    lengths, others = _lengths(said), _lengths(references)
    matched, similarity = _compared(said, references, owner)
    agreement = similarity.mean(axis=1) * np.exp(-((lengths[owner] - others) ** 2) / (2 * _SIGMA**2))
    return CaptionScores(
        matched=matched,
        possible=np.maximum(lengths[:, None] - np.arange(len(ORDERS)), 0),
        lengths=lengths,
        closest=_closest(lengths, others, owner),
        rouge_l=np.array([_rouge_l(text, group) for text, group in zip(said, true, strict=True)], float),
        cider_d=10 * np.bincount(owner, agreement, len(said)) / np.bincount(owner, minlength=len(said)),
        meteor=_meteor(said, true) if said and "meteor" not in left_out else None,
        left_out=left_out,
    )


def java_missing() -> str:
    """Why Java programs of pycocoevalcap cannot run here; empty when they can."""
    if find_spec("pycocoevalcap") is None:
        return "pycocoevalcap is not installed (pip install 'earthgpt[eval]')"
    return "" if shutil.which("java") else "there is no Java (apt-get install default-jre-headless)"


def _lengths(texts: Sequence[Tokens]) -> np.ndarray:
    return np.array([len(text) for text in texts], int)


def _compared(said: Sequence[Tokens], references: Sequence[Tokens], owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each order the n-grams of each text that a reference has too, [N, 4], and the similarity of CIDEr-D of each
    reference to its text, [R, 4]: the cosine of their n-grams weighted by rarity (Vedantam et al., 2015).
    """
    texts = [*said, *references]
    numbers = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
    words = np.fromiter(map(numbers.__getitem__, chain.from_iterable(texts)), int)  # [W]
    lengths = _lengths(texts)
    text = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(lengths.cumsum(), lengths) - np.arange(len(words))  # words from here to the end of the text
    grams, kinds = words.copy(), max(len(numbers), 1)  # the n-gram that starts here, by number; how many there are
    matched, similarity = [], []
    for order in ORDERS:
        starts = np.flatnonzero(left >= order)
        if order > 1:
            longer = grams[starts] * len(numbers) + words[starts + order - 1]
            known, grams[starts] = np.unique(longer, return_inverse=True)
            kinds = max(len(known), 1)
        pairs, counts = np.unique(text[starts] * kinds + grams[starts], return_counts=True)  # (text, n-gram)
        of, gram = np.divmod(pairs, kinds)
        first = int(np.searchsorted(of, len(said)))  # where the references begin
        reference = of[first:] - len(said)
        same = owner[reference] * kinds + gram[first:]  # (text of the reference, n-gram)
        place = np.minimum(np.searchsorted(pairs[:first], same), max(first - 1, 0))
        shared = pairs[place] == same if first else np.zeros(len(same), bool)

        most = np.zeros(first, int)
        np.maximum.at(most, place[shared], counts[first:][shared])
        matched.append(np.bincount(of[:first], np.minimum(most, counts[:first]), len(said)))

        once = np.sort(same)  # np.unique hashes here, which is slower
        once = once[np.append(True, once[1:] > once[:-1])[: len(once)]]
        images = np.bincount(once % kinds, minlength=kinds)
        weights = counts * (math.log(max(len(said), 1)) - np.log(np.maximum(images, 1)))[gram]
        norms = np.sqrt(np.bincount(of, weights**2, len(texts)))
        theirs = weights[first:][shared]
        dots = np.bincount(reference[shared], np.minimum(weights[place[shared]], theirs) * theirs, len(references))
        both = norms[owner] * norms[len(said) :]
        similarity.append(np.divide(dots, both, out=np.zeros(len(references)), where=both > 0))
    return np.stack(matched, axis=1), np.stack(similarity, axis=1)


def _closest(lengths: np.ndarray, others: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The length of the reference that is nearest in length to each text, of equals the shorter."""
    order = np.lexsort((others, np.abs(others - lengths[owner]), owner))
    return others[order][np.searchsorted(owner, np.arange(len(lengths)))]


def _rouge_l(text: Tokens, group: Sequence[Tokens]) -> float:
    """F of the best precision and the best recall over the references, with beta 1.2 (Lin, 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(text):
        places[word] = places.get(word, 0) | 1 << i
    common = [_common(places, len(text), reference) for reference in group]
    if not any(common):
        return 0.0
    precision = max(common) / len(text)
    recall = max(count / len(reference) for count, reference in zip(common, group, strict=True) if reference)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(places: dict[str, int], length: int, other: Tokens) -> int:
    """Length of the longest common subsequence of a text, given by the places of its words as bits, and another
    (Hyyrö, 2004): a zero in ``row`` is a step of the usual table.
    """
    row = ones = (1 << length) - 1
    for word in other:
        if found := row & places.get(word, 0):
            row = row + found | row - found
    return length - (row & ones).bit_count()


def _meteor(said: Sequence[Tokens], true: Sequence[Sequence[Tokens]]) -> float:
    """METEOR 1.5 of all texts together (Denkowski and Lavie, 2014), as pycocoevalcap runs it."""
    from pycocoevalcap.meteor.meteor import Meteor

    texts = {i: [" ".join(text)] for i, text in enumerate(said)}
    references = {i: [" ".join(reference) for reference in group] for i, group in enumerate(true)}
    return float(Meteor().compute_score(references, texts)[0])
