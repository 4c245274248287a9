"""One model for all requests: they are decoded together, token by token, and images are read between or beside."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from earthgpt.generation import Answer, ends_of, has_rules, heard_by_each, known_of
from earthgpt.geo.raster import Raster
from earthgpt.grammar import Grammar
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.attention import Beginning
from earthgpt.model.compiled import MOST
from earthgpt.model.constraint import Constraint
from earthgpt.model.decoding import Rows, may_share, read, read_beginnings, readable
from earthgpt.model.processing import IGNORED
from earthgpt.perception import Seen, deduce
from earthgpt.serve.cache import Cache, key_of
from earthgpt.serve.requests import BusyError, Decoding, Request, TooLongError
from earthgpt.tasks import Task
from earthgpt.types import Conversation, EarthGPTError

# Choices that are read in one pass; more are read in several.
_CHOICES = 64
# Conversations whose new images are read in one pass.
_IMAGES = 4
# The part of the cache that is for words, so that those of dialogues that do not go on drive out no images.
_TURNS = 8
# Tokens of questions that are read in one pass, padded to the longest: a long one among short ones takes memory of all.
_QUESTIONS = 4096
_log = logging.getLogger("earthgpt.serve")


class Engine:
    """A model that answers many at once.

    No more than ``most_waiting`` requests wait; up to ``batch_size`` are decoded together, of a compiled model no more
    than one pass of it takes: who comes joins those that are under way. What images became (their visual tokens, and
    the language model's keys and values of them) is kept in ``cache`` and shared by all; in ``turns``, an eighth of
    ``cache_bytes``, those of what was said about them, so that a dialogue goes on from there. Images that are new are
    read for no more requests than ``batch_size`` ahead, with ``beside`` in a thread beside that of decoding, else
    between two steps of it; None says yes on a graphics card, no on a processor. ``tasks``: of one's own, whose
    ``deduce`` is asked too (``EarthGPT``).

    encoded: images that went through the encoders. steps, rows: passes of decoding, and how many answers they advanced.
    prefills: passes over questions.

    Raises EarthGPTError for a model that ``model.decoding`` cannot read, and for one with rules of its own.
    """

    def __init__(
        self,
        model: EarthGPTForConditionalGeneration,
        processor: EarthGPTProcessor,
        batch_size: int = 32,
        most_waiting: int = 256,
        cache_bytes: int = 2**29,
        tasks: Sequence[Task] = (),
        beside: bool | None = None,
    ) -> None:
        self.model, self.processor, self.tasks = model.eval(), processor, tuple(tasks)
        if not readable(model):
            raise EarthGPTError(
                "The server needs a language model whose layers see all tokens before, with torch's attention: load it "
                "with attn_implementation='sdpa'."
            )
        if has_rules(model):
            raise EarthGPTError(
                "The server takes the likeliest token, or one by chance: remove the rules of the model's "
                "generation_config.json (repetition_penalty and the like)."
            )
        self.batch_size = batch_size if model.compiled is None else min(batch_size, MOST)
        self.most_waiting = most_waiting
        self.turns = Cache(cache_bytes // _TURNS)
        self.cache, self._cache_lock = Cache(cache_bytes - self.turns.most_bytes), threading.Lock()
        self.encoded = self.steps = self.rows = self.prefills = 0
        positions = getattr(model.config.text_config, "max_position_embeddings", None) or math.inf
        self.room = min(positions, readable(model))  # tokens of a conversation with its answer
        self._unseen: deque[Request] = deque()  # their images are to be read
        self._looking = False  # whether those of a request are read now
        self._waiting: deque[Request] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._running: list[Request] = []
        self._rows = self._no_rows()  # one for each that runs, in their order
        self._ends = ends_of(model, processor)
        self._longest = max(map(len, processor.tokenizer.get_vocab()))  # letters of a token
        # On a processor both need all cores. And where threads that multiply are more than cores, GNU's OpenMP sends
        # them to sleep after every product: decoding then takes twice as long, for good.
        self._beside = model.device.type != "cpu" if beside is None else beside
        loops = {"model": self._loop, **({"images": self._look} if self._beside else {})}
        self._threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait, those for a call of a function too."""
        return len(self._unseen) + len(self._waiting) + len(self._calls)

    @property
    def running(self) -> int:
        """How many are decoded now."""
        return len(self._running)

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return all(thread.is_alive() for thread in self._threads) and not self._closing

    def submit(
        self,
        conversation: Conversation,
        squares: Sequence[np.ndarray],
        decoding: Decoding = Decoding(),
        timeout_s: float = 120.0,
        told: Callable[[Request], None] = lambda request: None,
        grammar: Grammar | None = None,
    ) -> Request:
        """Asks for the next message of a conversation about ``squares``, its images as ``processor.square`` makes them;
        one of a grammar, if any, where it is the likeliest that is asked for (``generation.generate``).

        Raises TooLongError where there is no room for an answer, BusyError where too many wait, and what
        ``processor.render`` does.
        """
        rendered = self._rendered(conversation)
        ids = rendered["input_ids"]
        decoding = replace(decoding, max_tokens=min(decoding.max_tokens, self.room - len(ids)))
        constraint = Constraint(grammar, self.processor.tokenizer) if grammar and decoding.temperature == 0 else None
        request = self._request(ids, squares, decoding, time.monotonic() + timeout_s, told, constraint)
        self._recall(request, rendered["labels"])
        with self._changed:
            self._refuse_more()
            seen = not squares or request.key in self.cache
            (self._waiting if seen else self._unseen).append(request)
            self._changed.notify_all()
        return request

    def _rendered(self, conversation: Conversation) -> dict[str, list[int]]:
        letters = sum(len(message.text) for message in conversation.messages)
        if letters > self.room * self._longest:  # told without splitting it into tokens, which takes time and memory
            raise TooLongError(
                f"The conversation has {letters:,} letters, more than the model can read: leave images or messages out."
            )
        rendered = self.processor.render(conversation)
        if (count := len(rendered["input_ids"])) >= self.room:
            raise TooLongError(
                f"The conversation has {count:,} tokens, and the model reads {self.room:,} with its answer: "
                "leave images or messages out."
            )
        return rendered

    def _request(self, ids: list[int], squares: Sequence[np.ndarray], decoding: Decoding, *others: Any) -> Request:
        prefix = 1  # a conversation without images goes on from its first token
        if squares:
            prefix = ids.index(self.processor.image_token_id) + self.processor.tokens_per_image * len(squares)
        keys = tuple(key_of(square) for square in squares)
        return Request(ids, decoding, self._decode, squares, keys, prefix, self._ends, *others)

    def _recall(self, request: Request, labels: Sequence[int]) -> None:
        """Finds what was read of a conversation when its last answer was made, or one before that, or this very one."""
        ids, begin = request.asked, request.prefix
        answers = [i for i in range(begin, len(ids)) if labels[i] != IGNORED and labels[i - 1] == IGNORED]
        with self._cache_lock:
            places = (self.turns.get(request.question(place)) for place in (None, *reversed(answers)))
            read, turns = next(filter(None, places), ([], None))
        if known := known_of(ids[begin:], read):
            request.go_on(turns.until(known))

    def _keep(self, number: int) -> None:
        """Keeps what was read of a conversation, and of its answer."""
        request = self._running[number]
        if request.finish in ("stop", "length"):
            read = [*request.asked, *request.written][request.prefix : request.start]
            turns = self._rows.row(number, request.prefix, request.start)
            with self._cache_lock:
                self.turns.put(request.question(), (read, turns), turns.nbytes)

    def _no_rows(self) -> Rows:
        """Torch's attention takes longer for many images one by one than for rows that have a copy each."""
        return Rows(shares=self.model.compiled is not None and may_share(self.model))

    def ask(
        self,
        conversation: Conversation,
        squares: Sequence[np.ndarray],
        decoding: Decoding = Decoding(),
        timeout_s: float = 120.0,
        grammar: Grammar | None = None,
    ) -> Answer:
        """The next message; this thread waits for it. Raises as ``submit`` and ``Request.answer`` do."""
        ended = threading.Event()

        def told(request: Request) -> None:
            if request.done:
                ended.set()

        request = self.submit(conversation, squares, decoding, timeout_s, told, grammar)
        ended.wait()
        return request.answer()

    def _refuse_more(self, full: bool = True) -> None:
        """Raises BusyError where the engine closes, and with ``full`` where its queues are."""
        if self._closing:
            raise BusyError("The server is shutting down.", 5.0)
        if full and self.waiting >= self.most_waiting:
            raise BusyError(f"{self.waiting} requests are waiting already.")

    def run(self, function: Callable[[], Any], timeout_s: float | None = None) -> Any:
        """Calls a function in the model's thread, between two steps of decoding; returns what it does.

        timeout_s: in which it has to be done. With None this thread waits as long as it takes, and is not told that too
        many wait. Raises what the function raises, TimeoutError, and BusyError as ``submit`` does.
        """
        call: tuple[Callable[[], Any], Future] = (function, Future())
        with self._changed:
            self._refuse_more(full=timeout_s is not None)
            self._calls.append(call)
            self._changed.notify_all()
        try:
            return call[1].result(timeout_s)
        finally:
            if call[1].cancel():  # it has not begun in time
                with self._changed, suppress(ValueError):
                    self._calls.remove(call)

    def deduce(self, conversation: Conversation, timeout_s: float = 120.0) -> Answer | None:
        """As ``perception.deduce``, from what was seen in the image before. Raises as ``submit`` and ``run``."""
        if self.model.dense_heads is None:
            return None
        self._rendered(conversation)  # before its words are looked through
        model, processor, tasks = self.model, self.processor, self.tasks
        return self.run(lambda: deduce(model, processor, [conversation], self.seen, tasks)[0], timeout_s)

    def seen(self, raster: Raster) -> Seen:
        """What the dense heads see in an image, kept in the cache."""
        key = ("seen", raster.digest, raster.size, raster.sensor)
        with self._cache_lock:
            found = self.cache.get(key)
            if found is None:
                found = Seen(self.model, self.processor, raster)
                self.cache.put(key, found, raster.pixels.nbytes)
        return found

    def square(self, raster: Raster) -> np.ndarray:
        """As ``processor.square``, kept in the cache."""
        key = ("square", raster.digest, raster.sensor)
        with self._cache_lock:
            found = self.cache.get(key)
        if found is None:
            found = self.processor.square(raster.pixels, raster.sensor)
            with self._cache_lock:
                self.cache.put(key, found, found.nbytes)
        return found

    def choices(
        self, conversation: Conversation, square: np.ndarray, choices: Sequence[str], timeout_s: float = 120.0
    ) -> list[float]:
        """As ``generation.choice_probabilities``, from the kept image. Raises as ``submit`` and ``run``."""
        ids = self.processor.render(conversation)["input_ids"]
        tokenizer = self.processor.tokenizer
        ends = [[*tokenizer(one, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for one in choices]
        if len(ids) + max(map(len, ends)) > self.room:
            raise TooLongError("The list of classes is too long for the model.")
        request = self._request(ids, [square], Decoding())
        totals = self.run(lambda: self._totals(request, ends), timeout_s)
        return torch.tensor(totals, dtype=torch.float64).softmax(-1).tolist()

    def close(self) -> None:
        """Takes no more requests, finishes those that are there, and returns when that is done."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # --- images: in a thread of their own, or in the model's -----------------------------------------------------

    @torch.inference_mode()
    def _look(self) -> None:
        while True:
            with self._changed:
                while not (fresh := self._next_unseen()):
                    if self._closing and not self._unseen:
                        return
                    self._changed.wait()
            self._look_at(fresh)

    def _next_unseen(self) -> list[Request]:
        """Takes requests whose images are to be read now."""
        if sum(one.beginning is not None for one in self._waiting) >= self.batch_size:
            return []
        fresh = [self._unseen.popleft() for _ in range(min(_IMAGES, len(self._unseen)))]
        self._looking = bool(fresh)
        return fresh

    def _look_at(self, fresh: list[Request]) -> None:
        fresh = [one for one in fresh if not self._stopped(one)]
        try:
            for request, beginning in zip(fresh, self._beginnings(fresh), strict=True):
                request.beginning = beginning
        except Exception as error:  # of the model: who waits for it is told, the others go on
            _log.exception("The model failed.")
            for request in fresh:
                request.error = error
                request.told(request)
        with self._changed:
            self._looking = False
            self._waiting.extend(one for one in fresh if not one.done)
            self._changed.notify_all()

    # --- the model's thread --------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._calls or self._running or (self._unseen and not self._beside)):
                    if self._closing and not (self._unseen or self._looking):
                        return
                    self._changed.wait()
                unseen = [] if self._beside else self._next_unseen()
            if unseen:
                self._look_at(unseen)
            with self._changed:
                fresh = self._next_waiting()
                if fresh:
                    self._changed.notify_all()  # there is room for images again
                call = self._calls.popleft() if self._calls else None
            if call:
                self._call(*call)
            self._advance(fresh)

    def _next_waiting(self) -> list[Request]:
        """Takes requests whose questions are to be read now."""
        fresh: list[Request] = []
        longest, room = 0, self.batch_size - len(self._running)
        while self._waiting and len(fresh) < room:
            longest = max(longest, len(self._waiting[0].feed))
            if fresh and longest * (len(fresh) + 1) > _QUESTIONS:
                break
            fresh.append(self._waiting.popleft())
        return fresh

    def _call(self, function: Callable[[], Any], found: Future) -> None:
        if not found.set_running_or_notify_cancel():
            return
        try:
            found.set_result(function())
        except BaseException as error:  # it belongs to whoever waits, and is raised there
            found.set_exception(error)

    def _advance(self, fresh: list[Request]) -> None:
        """Reads new questions, or else decodes a token of every answer."""
        try:
            self._drop([self._stopped(one) for one in self._running])
            fresh = [one for one in fresh if not self._stopped(one)]
            if fresh:
                self._join(fresh)
            elif self._running:
                self._step()
        except Exception as error:  # of the model: those whose answers it took are told, the others go on
            _log.exception("The model failed.")
            for one in {*self._running, *fresh}:
                if not one.done:
                    one.error = error
                    one.told(one)
            self._running, self._rows = [], self._no_rows()

    def _stopped(self, request: Request) -> bool:
        if not request.done and request.cancelled:
            request.end("cancelled")
        elif not request.done and time.monotonic() > request.deadline:
            request.end("timeout")
        if request.done:
            request.told(request)
        return request.done

    def _decode(self, ids: list[int]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def _join(self, fresh: list[Request]) -> None:
        """Reads the questions of new requests, takes the first token of each, and decodes them with the others."""
        self.prefills += 1
        self._rows.add([self._beginning(one) for one in fresh])
        first = len(self._running)
        self._running += fresh
        for number, one in enumerate(fresh, first):
            if one.turns:
                self._rows.append([one.turns], number)
                one.turns = None
        self._read(first)

    def _beginning(self, request: Request) -> Beginning:
        found = request.beginning or self._beginnings([request])[0]
        request.beginning = None
        return found

    def _beginnings(self, requests: Sequence[Request]) -> list[Beginning]:
        """What the model has read of the start of each conversation and its images. What is not kept is read together,
        and then kept."""
        found: dict[Hashable, Beginning] = {}
        missing: dict[Hashable, Request] = {}
        for request in requests:
            with self._cache_lock:
                kept = found.get(request.key) or self.cache.get(request.key)
            if kept is None:
                missing[request.key] = request
            else:
                found[request.key] = kept
                request.cached_tokens += request.prefix
        if missing:
            fresh = list(missing.values())
            visual = self._visual({key: one for r in fresh for key, one in zip(r.keys, r.squares, strict=True)})
            images = [visual[key] for one in fresh for key in one.keys]
            every = read_beginnings(self.model, [one.asked[: one.prefix] for one in fresh], images)
            for key, one in zip(missing, every, strict=True):
                found[key] = one
                with self._cache_lock:
                    self.cache.put(key, one, one.nbytes)
        return [found[request.key] for request in requests]

    def _visual(self, squares: dict[bytes, np.ndarray]) -> dict[bytes, torch.Tensor]:
        """The visual tokens of images by key, [tokens_per_image, D] each."""
        with self._cache_lock:
            visual = {key: self.cache.get(("image", key)) for key in squares}
        new = [key for key, one in visual.items() if one is None]
        if new:
            self.encoded += len(new)
            pixels = self.processor.normalise([squares[key] for key in new]).to(self.model.device)
            features = self.model.get_image_features(pixels)
            for key, one in zip(new, features, strict=True):
                visual[key] = one.clone()
                with self._cache_lock:
                    self.cache.put(("image", key), visual[key], one.nbytes)
        return visual

    def _step(self) -> None:
        """One more token of every answer, or several where they are certain."""
        self.steps += 1
        self.rows += len(self._running)
        self._read(0)

    def _read(self, first: int) -> None:
        """Reads what is to be read of the requests that run, from ``first`` on, and has each choose its next tokens;
        those that are done leave."""
        those = self._running[first:]
        feeds, starts = [one.feed for one in those], [one.start for one in those]
        keep = [one.bets + 1 for one in those]
        logits, places = read(self.model, self._rows, feeds, starts, keep, first)
        for number, heard in enumerate(heard_by_each(logits, places, keep), first):
            request = self._running[number]
            try:
                request.hear(*heard)
                self._keep(number)  # before it is told, since the next turn may come at once
            except Exception as error:  # of this request alone
                _log.exception("A token could not be chosen.")
                request.error = error
            request.told(request)
        self._drop([one.done for one in self._running])

    def _drop(self, done: list[bool]) -> None:
        """Takes rows out; the last ones move to their places."""
        gone = [i for i, one in enumerate(done) if one]
        if len(gone) == len(done):
            self._running, self._rows = [], self._no_rows()
        elif gone:
            self._running = [self._running[i] for i in self._rows.remove(gone)]

    def _totals(self, request: Request, ends: Sequence[list[int]]) -> list[float]:
        """The log probability of each end behind a question."""
        self.prefills += 1
        question, totals = Rows(), []
        question.add([self._beginning(request)])
        logits, _ = read(self.model, question, [request.feed], [request.start], [1])
        first = logits[0, -1].float().log_softmax(-1).cpu()  # [V]
        asked = question.row(0)
        for start in range(0, len(ends), _CHOICES):
            part = ends[start : start + _CHOICES]
            rows, feeds = Rows(shares=may_share(self.model)), [one[:-1] for one in part]
            rows.add([asked] * len(part))
            logits, places = read(self.model, rows, feeds, [asked.length] * len(part), list(map(len, feeds)))
            for row, place, tokens in zip(logits.float().log_softmax(-1).cpu(), places, part, strict=True):
                behind = row[place - len(tokens) + 1 : place]  # each token but the first is told behind the one before
                later = sum(float(one[token]) for one, token in zip(behind, tokens[1:], strict=True))
                totals.append(float(first[tokens[0]]) + later)
        return totals
