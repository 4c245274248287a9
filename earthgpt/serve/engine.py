"""One model for all requests: they are decoded together, token by token, and images are read between or beside."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache as KeysAndValues
from transformers.cache_utils import DynamicCache

from earthgpt.generation import Answer
from earthgpt.geo.raster import Raster
from earthgpt.grammar import Grammar
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.constraint import Constraint
from earthgpt.perception import Seen, deduce
from earthgpt.serve.batch import Batch
from earthgpt.serve.cache import Cache, key_of
from earthgpt.serve.requests import BusyError, Decoding, Request, TooLongError, sampled
from earthgpt.tasks import Task
from earthgpt.types import Conversation

# Choices that are read in one pass; more are read in several.
_CHOICES = 64
# Conversations whose new images are read in one pass.
_IMAGES = 4
_log = logging.getLogger("earthgpt.serve")


class Engine:
    """A model that answers many at once.

    No more than ``most_waiting`` requests wait; up to ``batch_size`` are decoded together: who comes joins those that
    are under way. What images became (their visual tokens, and the language model's keys and values of them) is kept in
    ``cache`` and shared by all. Images that are new are read for no more requests than ``batch_size`` ahead, with
    ``beside`` in a thread beside that of decoding, else between two steps of it; None says yes on a graphics card, no
    on a processor. ``tasks``: of one's own, whose ``deduce`` is asked too (``EarthGPT``).

    encoded: images that went through the encoders. steps, rows: passes of decoding, and how many answers they advanced.
    prefills: passes over questions.
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
        self.batch_size, self.most_waiting = batch_size, most_waiting
        self.cache, self._cache_lock = Cache(cache_bytes), threading.Lock()
        self.encoded = self.steps = self.rows = self.prefills = 0
        self.room: int | None = getattr(model.config.text_config, "max_position_embeddings", None)
        self._unseen: deque[Request] = deque()  # their images are to be read
        self._looking = False  # whether those of a request are read now
        self._waiting: deque[Request] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._running: list[Request] = []
        self._batch = Batch()  # a row for each that runs, in their order
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
        ids = self.processor.render(conversation)["input_ids"]
        if self.room and len(ids) >= self.room:
            raise TooLongError(
                f"The conversation has {len(ids):,} tokens, and the model reads {self.room:,} with its answer: "
                "leave images or messages out."
            )
        if self.room:
            decoding = Decoding(**{**vars(decoding), "max_tokens": min(decoding.max_tokens, self.room - len(ids))})
        prefix = int(self.processor.tokenizer.bos_token_id is not None)
        prefix += self.processor.tokens_per_image * len(squares)
        generator = None
        if decoding.temperature > 0:
            generator = torch.Generator()
            generator.seed() if decoding.seed is None else generator.manual_seed(decoding.seed % 2**63)
        keys = tuple(key_of(square) for square in squares)
        deadline = time.monotonic() + timeout_s
        constraint = Constraint(grammar, self.processor.tokenizer) if grammar and decoding.temperature == 0 else None
        request = Request(
            ids, squares, keys, prefix, decoding, deadline, told, generator=generator,
            constraint=constraint, state=constraint and constraint.start,
        )  # fmt: skip
        with self._changed:
            self._refuse_more()
            seen = not squares or ("prefix", keys) in self.cache
            (self._waiting if seen else self._unseen).append(request)
            self._changed.notify_all()
        return request

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
        """As ``perception.deduce``, from what was seen in the image before. Raises as ``run`` does."""
        if self.model.dense_heads is None:
            return None
        model, processor, tasks = self.model, self.processor, self.tasks
        return self.run(lambda: deduce(model, processor, [conversation], self.seen, tasks)[0], timeout_s)

    def seen(self, raster: Raster) -> Seen:
        """What the dense heads see in an image, kept in the cache."""
        key = ("seen", key_of(raster.pixels), raster.size, raster.sensor)
        with self._cache_lock:
            found = self.cache.get(key)
            if found is None:
                found = Seen(self.model, self.processor, raster)
                self.cache.put(key, found, raster.pixels.nbytes)
        return found

    def choices(
        self, conversation: Conversation, square: np.ndarray, choices: Sequence[str], timeout_s: float = 120.0
    ) -> list[float]:
        """As ``generation.choice_probabilities``, from the kept image. Raises as ``run`` does, and TooLongError."""
        ids = self.processor.render(conversation)["input_ids"]
        prefix = int(self.processor.tokenizer.bos_token_id is not None) + self.processor.tokens_per_image
        tokenizer = self.processor.tokenizer
        ends = [[*tokenizer(one, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for one in choices]
        if self.room and len(ids) + max(map(len, ends)) > self.room:
            raise TooLongError("The list of classes is too long for the model.")
        request = Request(ids, [square], (key_of(square),), prefix, Decoding(), 0.0, lambda request: None)
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
        if sum(one.layers is not None for one in self._waiting) >= self.batch_size:
            return []
        fresh = [self._unseen.popleft() for _ in range(min(_IMAGES, len(self._unseen)))]
        self._looking = bool(fresh)
        return fresh

    def _look_at(self, fresh: list[Request]) -> None:
        fresh = [one for one in fresh if not self._stopped(one)]
        try:
            for request, layers in zip(fresh, self._images(fresh), strict=True):
                request.layers = layers
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
                room = self.batch_size - len(self._running)
                fresh = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
                if fresh:
                    self._changed.notify_all()  # there is room for images again
                call = self._calls.popleft() if self._calls else None
            if call:
                self._call(*call)
            self._advance(fresh)

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
            self._running, self._batch = [], Batch()

    def _stopped(self, request: Request) -> bool:
        if not request.done and request.cancelled:
            request.end("cancelled", self._decode)
        elif not request.done and time.monotonic() > request.deadline:
            request.end("timeout", self._decode)
        if request.done:
            request.told(request)
        return request.done

    def _decode(self, ids: list[int]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def _join(self, fresh: list[Request]) -> None:
        """Reads the questions of new requests, takes the first token of each, and decodes them with the others."""
        past, mask, logits = self._read_questions(fresh, [one.ids[one.prefix :] for one in fresh], 1)
        self._batch.add(past, mask)
        self._running += fresh
        self._take(fresh, logits[:, -1])

    def _read_questions(
        self, requests: Sequence[Request], texts: Sequence[list[int]], keep: int
    ) -> tuple[KeysAndValues, torch.Tensor, torch.Tensor]:
        """Keys and values, mask [B, L] and the last ``keep`` logits [B, keep, V] of texts behind images.

        A row is: padding, images, padding, text. Positions count what is no padding.
        """
        self.prefills += 1
        device = self.model.device
        images = [one.layers or self._images([one])[0] for one in requests]  # each: layers [1, H, P, d]
        for request in requests:
            request.layers = None
        most, longest = max(one.prefix for one in requests), max(map(len, texts))
        past = DynamicCache()
        for layer in range(max(map(len, images))):
            keys, values = (
                torch.cat([_left(one[layer][i], most) if one else _none(images, most) for one in images])
                for i in (0, 1)
            )
            past.update(keys, values, layer)
        rows = [
            [0] * (most - one.prefix) + [1] * one.prefix + [0] * (longest - len(text)) + [1] * len(text)
            for one, text in zip(requests, texts, strict=True)
        ]
        mask = torch.tensor(rows, device=device)  # [B, P + T]
        ids = torch.tensor([[0] * (longest - len(text)) + text for text in texts], device=device)  # [B, T]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, most:]
        logits = self._pass(self.model.get_input_embeddings()(ids), mask, positions, past, keep)
        return past, mask, logits

    def _images(self, requests: Sequence[Request]) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        """The language model's keys and values [1, H, P, d] of the start of each conversation and its images, by layer.

        What is not kept is read together, and then kept.
        """
        found: dict[tuple[bytes, ...], list] = {}
        missing: dict[int, dict[tuple[bytes, ...], Request]] = {}  # by length
        for request in requests:
            if request.keys in found or not request.prefix:
                continue
            with self._cache_lock:
                kept = self.cache.get(("prefix", request.keys))
            if kept is None:
                missing.setdefault(request.prefix, {})[request.keys] = request
            else:
                found[request.keys] = kept
                request.cached_tokens = request.prefix
        for same in missing.values():
            found.update(zip(same, self._prefixes(list(same.values())), strict=True))
        return [found[request.keys] if request.prefix else [] for request in requests]

    def _prefixes(self, requests: Sequence[Request]) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        """As ``_images``, for conversations that start with as many images each; kept afterwards."""
        device = self.model.device
        ids = torch.tensor([one.ids[: one.prefix] for one in requests], device=device)
        embedded = self.model.get_input_embeddings()(ids)  # [B, P, D]
        if requests[0].squares:
            squares = {key: one for r in requests for key, one in zip(r.keys, r.squares, strict=True)}
            visual = self._visual(squares)
            places = (ids == self.model.config.image_token_id)[..., None]
            rows = torch.cat([visual[key] for one in requests for key in one.keys])
            embedded = embedded.masked_scatter(places, rows.to(embedded.dtype))
        past = DynamicCache()
        positions = torch.arange(ids.shape[1], device=device).expand(len(ids), -1)
        self._pass(embedded, torch.ones_like(ids), positions, past, 1)
        every = []
        for i, request in enumerate(requests):
            # Of its own memory: a part of the batch would hold all of it.
            layers = [(one.keys[i : i + 1].clone(), one.values[i : i + 1].clone()) for one in past.layers]
            with self._cache_lock:
                self.cache.put(("prefix", request.keys), layers, sum(k.nbytes + v.nbytes for k, v in layers))
            every.append(layers)
        return every

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

    def _pass(self, embedded, mask, positions, past: KeysAndValues, keep: int) -> torch.Tensor:
        return self.model.language_model(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=keep,
        ).logits

    def _step(self) -> None:
        """One more token of every answer."""
        self.steps += 1
        self.rows += len(self._running)
        device = self.model.device
        ids = torch.tensor([[one.written[-1]] for one in self._running], device=device)
        places = [[one.prompt_tokens + len(one.written) - 1] for one in self._running]
        past, mask = self._batch.next()
        embedded = self.model.get_input_embeddings()(ids)
        logits = self._pass(embedded, mask, torch.tensor(places, device=device), past, 1)
        self._take(self._running, logits[:, -1])

    def _take(self, requests: Sequence[Request], logits: torch.Tensor) -> None:
        """Chooses a token for each request from logits [B, V]; those that are done leave."""
        likely = logits.float().log_softmax(-1).cpu()
        chosen = likely.argmax(-1).tolist()
        most = max(one.decoding.alternatives for one in requests)
        top = likely.topk(most, dim=-1) if most else None
        for i, request in enumerate(requests):
            others = () if top is None else tuple(zip(top.indices[i].tolist(), top.values[i].tolist(), strict=True))
            try:
                self._hear(request, likely[i], chosen[i], others[: request.decoding.alternatives])
            except Exception as error:  # of this request alone
                _log.exception("A token could not be chosen.")
                request.error = error
            request.told(request)
        self._drop([one.done for one in self._running])

    def _hear(self, request: Request, likely: torch.Tensor, token: int, others: Sequence[tuple[int, float]]) -> None:
        """Gives a request its next token, of log probabilities [V]: ``token`` is the likeliest. ``others`` are told."""
        decoding = request.decoding
        if decoding.temperature > 0:
            token = sampled(likely, decoding, request.generator)
        if request.constraint is not None:
            left = decoding.max_tokens - len(request.written)
            token, request.state = request.constraint.take(request.state, likely, token, left)
        if token == self.processor.tokenizer.eos_token_id:
            request.end("stop", self._decode)
            return
        alternatives = tuple((self._decode([other]), value) for other, value in others)
        request.add(token, float(likely[token]), alternatives, self._decode)
        full, state = len(request.written) >= decoding.max_tokens, request.state
        if state is not None and state.ends and (full or not state.following):
            request.end("stop", self._decode)  # it is whole, and nothing can follow
        elif not request.done and full:
            request.end("length", self._decode)

    def _drop(self, done: list[bool]) -> None:
        """Takes rows out; the last ones move to their places."""
        for i in reversed([i for i, one in enumerate(done) if one]):
            self._batch.remove(i)
            last = self._running.pop()
            if i < len(self._running):
                self._running[i] = last
        if not self._running:
            self._batch = Batch()

    def _totals(self, request: Request, ends: Sequence[list[int]]) -> list[float]:
        """The log probability of each end behind a question."""
        question, totals = request.ids[request.prefix :], []
        for start in range(0, len(ends), _CHOICES):
            part = ends[start : start + _CHOICES]
            keep = max(map(len, part)) + 1
            _, _, logits = self._read_questions([request] * len(part), [question + one for one in part], keep)
            likely = logits.float().log_softmax(-1).cpu()  # [B, keep, V], padded on the left
            for row, tokens in zip(likely, part, strict=True):
                places = range(len(row) - len(tokens) - 1, len(row) - 1)
                totals.append(sum(float(row[place, token]) for place, token in zip(places, tokens, strict=True)))
        return totals


def _left(values: torch.Tensor, length: int) -> torch.Tensor:
    """[B, H, L, d] with zeros in front, up to a length."""
    return torch.nn.functional.pad(values, (0, 0, length - values.shape[2], 0))


def _none(images: Sequence[list], length: int) -> torch.Tensor:
    """Padding alone, in the form of those that have something."""
    shape = next(one for one in images if one)[0][0]
    return shape.new_zeros(1, shape.shape[1], length, shape.shape[3])
