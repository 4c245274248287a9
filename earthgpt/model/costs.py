"""What training a model costs: floating-point operations of a step, and memory, before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import BatchFeature

from earthgpt.model.attention import Segment
from earthgpt.model.configuration import IGNORED
from earthgpt.model.modeling import EarthGPTForConditionalGeneration
from earthgpt.model.vision import VisionEncoder


@dataclass(frozen=True)
class StepCost:
    """Floating-point operations (2 for each multiply-add) of a training step of one model with one trainable set.

    Counted are the products that the step asks for, each once: what activation checkpointing computes again is not
    counted, as in the usual definition of model FLOPs utilisation (PaLM, Chowdhery et al., 2022, appendix B). Numbers
    of weights are those of linear layers; ``trained`` of those whose gradients are computed. Not counted are dense
    heads, and what is projected of images whose features are known.
    """

    vision: float  # of one image of side x side pixels, forward
    side: int
    vision_trained: bool
    projector: int
    projector_trained: bool
    body: int
    body_trained: int
    head: int
    head_trained: bool
    attention: int  # layers times width
    visual_tokens: int  # of one image

    @classmethod
    def of(cls, model: EarthGPTForConditionalGeneration) -> StepCost:
        """The cost for a model whose parameters are already chosen (``requires_grad``) and not yet divided."""
        head = model.language_model.get_output_embeddings().weight
        linear = [
            one.weight
            for one in model.language_model.modules()
            if isinstance(one, nn.Linear) and one.weight is not head
        ]
        text, projector = model.config.text_config, model.mm_projector.linear.weight
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return cls(
            vision=vision_flops(model),
            side=model.config.image_size,
            vision_trained=any(one.requires_grad for one in model.vision_encoder.parameters()),
            projector=projector.numel(),
            projector_trained=projector.requires_grad,
            body=sum(one.numel() for one in linear),
            body_trained=sum(one.numel() for one in linear if one.requires_grad),
            head=head.numel(),
            head_trained=head.requires_grad,
            attention=text.num_hidden_layers * text.num_attention_heads * width,
            visual_tokens=model.config.grid**2,
        )

    def flops(self, batch: BatchFeature, encoded: int | None = None) -> float:
        """Of a step on a packed row (``EarthGPTProcessor.pack``); ``encoded`` of its images went through the encoders,
        all when it is None."""
        tokens = pairs = labelled = 0
        if "input_ids" in batch:
            tokens = batch["input_ids"].numel()
            pairs = sum(segment.pairs for segment in batch["segments"])
            labelled = int((batch["labels"] != IGNORED).sum())
        images = len(batch["pixel_values"]) if "pixel_values" in batch else 0
        encoded = images if encoded is None else encoded
        larger = (batch["pixel_values"].shape[2] / self.side) ** 2 if images else 1.0
        # Forward, gradients of activations, and gradients of the weights that are trained.
        body = 2 * tokens * (2 * self.body + self.body_trained) + 3 * 4 * self.attention * pairs
        head = 2 * labelled * self.head * (2 + self.head_trained)
        projector = 2 * images * larger * self.visual_tokens * self.projector
        projector *= 1 + self.projector_trained + self.vision_trained
        return body + head + projector + encoded * larger * self.vision * (3 if self.vision_trained else 1)


def vision_flops(model: EarthGPTForConditionalGeneration) -> float:
    """Of both encoders for one image, forward, counted by torch on shapes alone."""
    with torch.device("meta"):
        encoder = VisionEncoder(model.config).eval()
        pixels = torch.empty(1, 3, model.config.image_size, model.config.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(pixels)
    return float(counter.get_total_flops())


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training needs on one device.

    weights, gradients, optimizer: of a model that is whole on the device; several processes divide them. working: the
    copies of trained weights in the precision of the arithmetic. image: what one more image in a micro batch keeps for
    the backward pass, its text included. fixed: what is kept once, whatever the micro batch.
    """

    weights: int
    gradients: int
    optimizer: int
    working: int
    image: int
    fixed: int

    def total(self, images: int, processes: int = 1) -> int:
        """With so many images in a micro batch, on each of so many processes."""
        divided = self.weights + self.gradients + self.optimizer
        return divided // processes + self.working // processes + self.fixed + images * self.image

    def images(self, memory: int, processes: int = 1) -> int:
        """The largest micro batch that fits; 0 when none does."""
        return max(0, (memory - self.total(0, processes)) // self.image)


@dataclass
class _Kept:
    """Counts the bytes that autograd keeps, each storage once; parameters are not counted."""

    model: nn.Module
    storages: dict[int, int] = field(default_factory=dict)
    held: list[torch.Tensor] = field(default_factory=list)  # so that no storage is freed and its address used again

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage._cdata] = storage.nbytes()
        self.held.append(tensor)
        return tensor

    @property
    def total(self) -> int:
        own = {one.untyped_storage()._cdata for one in (*self.model.parameters(), *self.model.buffers())}
        return sum(size for key, size in self.storages.items() if key not in own)


def training_memory(
    model: EarthGPTForConditionalGeneration, text: int, labelled: int, checkpointing: bool
) -> TrainingMemory:
    """What training a model on the meta device would take, with ``text`` tokens beside each image of which
    ``labelled`` are learned.

    The parameters that are trained are chosen already (``requires_grad``) and kept in float32, the others in bfloat16,
    as ``training.train`` keeps them. Activations are what autograd keeps of a real forward pass on shapes alone. It
    leaves the model in bfloat16.
    """
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    frozen = sum(one.numel() for one in model.parameters() if not one.requires_grad)
    model.to(torch.bfloat16).train()
    with FakeTensorMode(allow_non_fake_inputs=True):  # tensors of a processor, with its kernels, but without memory
        # An encoder that is not trained is not asked, and has the most tensors.
        asked = (model.mm_projector, model.language_model)
        for part in (model,) if _trains_encoders(model) else asked:
            part.to_empty(device="cpu")
        one, two = (_activations(model, images, text, labelled, checkpointing) for images in (1, 2))
        image = two - one
        fixed = max(0, one - image)
        if checkpointing:  # a layer is computed again in the backward pass, and keeps all of itself for a moment
            plain = [_activations(model, images, text, labelled, False) for images in (1, 2)]
            image += (plain[1] - plain[0] - image) // model.config.text_config.num_hidden_layers
    return TrainingMemory(2 * frozen + 4 * trained, 4 * trained, 8 * trained, 2 * trained, image, fixed)


def _activations(model, images: int, text: int, labelled: int, checkpointing: bool) -> int:
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
    # Layers are alike, so two tell of all. A language model that goes through all of them whatever its configuration
    # says keeps as much for one as for two: then that is the answer.
    config = model.language_model.config
    layers = config.num_hidden_layers
    try:
        found = []
        for config.num_hidden_layers in (1, 2):
            found.append(_bytes_kept(model, images, text, labelled))
    finally:
        config.num_hidden_layers = layers
    # Logits: as they come, in float32, and their gradient.
    return found[0] + (layers - 1) * (found[1] - found[0]) + images * labelled * config.vocab_size * 8


def _trains_encoders(model) -> bool:
    return any(one.requires_grad for one in model.vision_encoder.parameters())


def _bytes_kept(model, images: int, text: int, labelled: int) -> int:
    config, length = model.config, model.config.tokens_per_image + text
    ids = torch.full((1, images * length), config.image_token_id)
    kept = _Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        if _trains_encoders(model):
            side = config.image_size
            visual = model.get_image_features(torch.empty(images, 3, side, side, dtype=torch.bfloat16))
        else:
            features = torch.empty(images, config.grid**2, config.visual_width, dtype=torch.bfloat16)
            visual = model.mm_projector(features)
        embeddings = model.get_input_embeddings()(ids) + visual.sum()
        model.language_model(
            inputs_embeds=embeddings if embeddings.requires_grad else embeddings.requires_grad_(),
            attention_mask=embeddings.new_zeros(1, 1, 1, 1),
            position_ids=torch.zeros_like(ids),
            segments=[Segment(start, start + length, start, start) for start in range(0, ids.shape[1], length)],
            logits_to_keep=torch.zeros(images * labelled, dtype=torch.long),
            use_cache=False,
        )
    return kept.total
