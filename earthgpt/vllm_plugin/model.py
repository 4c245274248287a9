"""The model as vLLM runs it: our encoders and projector as they are, and vLLM's own language model.

Written for and tested with vLLM 0.32 (requirements/vllm.txt); its interface moves between versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, BatchFeature, PreTrainedModel
from transformers.conversion_mapping import WeightRenaming, get_model_conversion_mapping
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import MultiModalEmbeddings, SupportsMultiModal, SupportsPP
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
)
from vllm.sequence import IntermediateTensors

from earthgpt.model import EarthGPTConfig, EarthGPTProcessor
from earthgpt.model.vision import Projector, VisionEncoder
from earthgpt.types import EarthGPTError


class ProcessingInfo(BaseProcessingInfo):
    """What vLLM must know of images before it sees one."""

    def get_hf_config(self) -> EarthGPTConfig:
        """The configuration. Raises EarthGPTError when the model has bias tuning or LoRA."""
        config = self.ctx.get_hf_config(EarthGPTConfig)
        if config.bias_tuning or config.lora:
            kind = "bias tuning" if config.bias_tuning else "LoRA inside"
            raise EarthGPTError(
                f"{self.model_id} has {kind}, which vLLM's language models do not know. Merge first: "
                f"earthgpt models merge {self.model_id} -o FOLDER"
            )
        return config

    def get_hf_processor(self, **kwargs: object) -> EarthGPTProcessor:
        """The processor that was saved with the model."""
        return self.ctx.get_hf_processor(EarthGPTProcessor, **kwargs)

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Any number of images."""
        return {"image": None}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Every image takes as many places."""
        return {"image": self.get_hf_config().tokens_per_image}


class DummyInputs(BaseDummyInputsBuilder[ProcessingInfo]):
    """Images without content, from which vLLM learns how much memory it needs."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """An image token for each image."""
        return self.info.get_hf_processor().image_token * mm_counts.get("image", 0)

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping) -> dict:
        """White squares of the size of the model."""
        side = self.info.get_hf_config().image_size
        number, overrides = mm_counts.get("image", 0), mm_options.get("image")
        return {"image": self._get_dummy_images(width=side, height=side, num_images=number, overrides=overrides)}


class MultiModalProcessor(BaseMultiModalProcessor[ProcessingInfo]):
    """Images to pixels by our own processor; each image token of a prompt to all places of its image."""

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {"pixel_values": MultiModalFieldConfig.batched("image")}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        config = self.info.get_hf_config()
        places = [config.image_token_id] * config.tokens_per_image
        return [PromptReplacement(modality="image", target=[config.image_token_id], replacement=places)]


@MULTIMODAL_REGISTRY.register_processor(MultiModalProcessor, info=ProcessingInfo, dummy_inputs=DummyInputs)
class EarthGPTForConditionalGeneration(nn.Module, SupportsMultiModal, SupportsPP):
    """Names of parameters are those of ``earthgpt.model``; encoders and projector are the same classes."""

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """None: the chat template of the processor puts the image tokens."""
        return None

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__()
        options = vllm_config.model_config
        config: EarthGPTConfig = options.hf_config
        self.config = config
        text_config = config.text_config
        width = text_config.hidden_size
        self.configure_mm_token_handling(text_config.vocab_size, [config.image_token_id])
        with self._mark_tower_model(vllm_config, "image"):
            self.vision_encoder = VisionEncoder(config).to(options.dtype)
            self.mm_projector = Projector(config.visual_width, width)
        self.image_start = nn.Parameter(torch.zeros(width))
        self.image_end = nn.Parameter(torch.zeros(width))
        with self._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config,
                prefix=maybe_prefix(prefix, "language_model"),
                hf_config=text_config,
                # A part that was made of a configuration does not say of what class it is.
                architectures=[MODEL_FOR_CAUSAL_LM_MAPPING[type(text_config)].__name__],
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def embed_multimodal(self, **inputs: object) -> MultiModalEmbeddings:
        """``pixel_values`` [n, 3, S, S] to [n, tokens_per_image, D]: image start, visual tokens, image end."""
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        visual = self.mm_projector(self.vision_encoder(pixels))  # [n, h*w, D]
        start, end = (one.expand(len(visual), 1, -1) for one in (self.image_start, self.image_end))
        return torch.cat([start, visual, end], dim=1)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor | IntermediateTensors:
        """Hidden states [T, D] of all tokens of a batch in one row."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """[T, V]."""
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Puts weights in their places by name, but those of dense heads; returns the names that were filled."""
        encoders = {f"vision_encoder.{part}.": getattr(self.vision_encoder, part) for part in ("vit", "cnn")}
        used = ((name, weight) for name, weight in weights if not name.startswith("dense_heads."))
        return AutoWeightsLoader(self).load_weights(_renamed(used, encoders))


def _renamed(
    weights: Iterable[tuple[str, torch.Tensor]], encoders: Mapping[str, PreTrainedModel]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights of encoders by their names in memory: transformers saves some, as of DINOv2, by older ones."""
    mappers = {
        prefix: WeightsMapper(
            orig_to_new_renaming=[
                one for one in get_model_conversion_mapping(encoder) if isinstance(one, WeightRenaming)
            ]
        )
        for prefix, encoder in encoders.items()
    }
    for name, weight in weights:
        prefix = next((one for one in mappers if name.startswith(one)), None)
        yield (name if prefix is None else prefix + mappers[prefix].map_name(name.removeprefix(prefix))), weight
