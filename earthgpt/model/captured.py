"""Passes over a few tokens as CUDA graphs: a graphics card gets all of a pass in one call, not kernel by kernel.

A token's time there is that of reading all weights once, but the processor takes several times as long to launch the
hundreds of small kernels that do it. A graph is launched at once. It reads and writes where it did when it was
captured: so a pass has its tokens and places, and the rows their keys and values, in tensors that stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from earthgpt.model.decoding import Rows
    from earthgpt.model.modeling import EarthGPTForConditionalGeneration

MOST = 64  # tokens of a pass: with more, its kernels take longer than their launches
OFTEN = 4  # passes before a capture, which takes as long as some of them; the first ones load what kernels need


class Step:
    """Passes of one form: each of ``count`` rows goes on by ``width`` tokens, and sees of the ``room`` places of its
    keys and values those up to its own.

    A pass is an ordinary one of the model, with a mask; on a CUDA device it is captured when it comes for the
    ``OFTEN``-th time, and replayed from then on. A model whose pass cannot be captured, because the processor decides
    on what the card has found, raises what torch does.
    """

    def __init__(self, count: int, width: int, room: int, device: torch.device):
        self.ids = torch.zeros(count, width, dtype=torch.long, device=device)
        self.places = torch.zeros_like(self.ids)
        self.room, self.passes = room, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: torch.Tensor | None = None

    def read(
        self, model: EarthGPTForConditionalGeneration, rows: Rows, ids: torch.Tensor, places: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, T, V] of tokens [B, T] at their places [B, T], until the next pass."""
        self.ids.copy_(ids)
        self.places.copy_(places)
        self.passes += 1
        if self.graph is None and self.passes >= OFTEN and self.ids.is_cuda:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on
                self.logits = self._run(model, rows)
            self.graph = graph
        if self.graph is None:
            return self._run(model, rows)
        self.graph.replay()
        return self.logits

    def _run(self, model: EarthGPTForConditionalGeneration, rows: Rows) -> torch.Tensor:
        rows.places, rows.end, rows.anywhere = self.places, self.room, True
        seen = torch.arange(self.room, device=self.ids.device) <= self.places[:, None, :, None]  # [B, 1, T, room]
        try:
            return model(
                input_ids=self.ids,
                attention_mask=seen,
                position_ids=self.places,
                past_key_values=rows,
                use_cache=True,
            ).logits
        finally:
            rows.anywhere = False
