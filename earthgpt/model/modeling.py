"""EarthGPT as a Hugging Face model: visual tokens first, then language, next-token prediction over the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from earthgpt.model.attention import NAME, Segment
from earthgpt.model.bias_tuning import BiasTunedLinear, add_bias_tuning, merge_bias_tuning
from earthgpt.model.compiled import Compiled
from earthgpt.model.configuration import IGNORED, EarthGPTConfig
from earthgpt.model.dense import DenseHeads, DenseTargets, Vocabulary
from earthgpt.model.lora import add_lora, merge_lora
from earthgpt.model.vision import Projector, VisionEncoder
from earthgpt.types import EarthGPTError


@dataclass
class EarthGPTOutput(ModelOutput):
    """``loss`` (scalar, mean over labelled tokens), ``logits`` [B, T, V], ``past_key_values``, ``encoded``
    [n, h * w, C], what the encoders gave for the pixels, and ``dense_loss`` (scalar) of the dense heads.

    With labels, logits are computed only at positions that are followed by a label somewhere in the batch.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: object | None = None
    encoded: torch.Tensor | None = None
    dense_loss: torch.Tensor | None = None


class EarthGPTForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Images and dialogue in, text out.

    ``input_ids`` [B, T] hold ``config.image_token_id`` at every place that an image fills (``tokens_per_image`` a
    image: a learnable image start, the visual tokens, a learnable image end); ``pixel_values`` [n, 3, S, S] are the
    images of the batch in order.
    """

    config_class = EarthGPTConfig
    base_model_prefix = "earthgpt"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _tied_weights_keys = {}
    compiled: Compiled | None = None
    captured: bool = False

    def __init__(self, config: EarthGPTConfig):
        super().__init__(config)
        self.vision_encoder = VisionEncoder(config)
        width = config.text_config.hidden_size
        self.mm_projector = Projector(config.visual_width, width)
        self.image_start = nn.Parameter(torch.zeros(width))
        self.image_end = nn.Parameter(torch.zeros(width))
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        if self.language_model.config._attn_implementation == "sdpa":
            self.language_model.set_attn_implementation(NAME)  # sdpa that knows segments
        if config.bias_tuning:
            add_bias_tuning(self.language_model)
        if config.lora:
            add_lora(self.language_model, **config.lora)
        self.dense_heads = self._new_heads(Vocabulary.from_dict(config.dense)) if config.dense else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, BiasTunedLinear):
            nn.init.ones_(module.alpha)
            nn.init.zeros_(module.beta)
        elif isinstance(module, Projector):
            nn.init.normal_(module.linear.weight, std=std)
            nn.init.zeros_(module.linear.bias)
            nn.init.ones_(module.norm.weight)
            nn.init.zeros_(module.norm.bias)
        elif module is self:
            nn.init.normal_(self.image_start, std=std)
            nn.init.normal_(self.image_end, std=std)

    @classmethod
    def from_pretrained(cls, *names, output_loading_info: bool = False, **options):
        """As in transformers; raises EarthGPTError where a way of quantising would leave the bias tuning out."""
        model, found = super().from_pretrained(*names, output_loading_info=True, **options)
        if lost := [name for name in found["unexpected_keys"] if name.endswith((".alpha", ".beta"))]:
            raise EarthGPTError(
                f"The model has bias tuning, which this way of quantising leaves out ({len(lost)} weights). Merge "
                "first: earthgpt models merge MODEL -o FOLDER"
            )
        return (model, found) if output_loading_info else model

    def save_pretrained(self, *names, **options):
        """As in transformers; raises EarthGPTError for a model quantised by torchao."""
        # torchao 0.18 cannot read back what it writes where a weight, as image_start, is in no module of its own.
        quantizer = getattr(self, "hf_quantizer", None)
        if quantizer is not None and quantizer.quantization_config.quant_method == "torchao":
            raise EarthGPTError(
                "A model quantised by torchao cannot be saved; save it plain, and quantise as you load it."
            )
        super().save_pretrained(*names, **options)

    def compile_decoding(self) -> None:
        """Has answers decoded by a program compiled for this machine (``compiled.Compiled``); one that begins after the
        weights have changed is of the new ones. On a CUDA device, by graphs of its passes (``captured.Step``). Raises
        EarthGPTError where that cannot be."""
        self.captured = self.device.type == "cuda"
        self.compiled = None if self.captured else Compiled(self.language_model)

    def get_input_embeddings(self):
        """The token embedding of the language model."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replaces the token embedding of the language model."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self):
        """The output layer of the language model."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value):
        """Replaces the output layer of the language model."""
        self.language_model.set_output_embeddings(value)

    def add_bias_tuning(self) -> list[str]:
        """Turns bias tuning on, keeping all weights; names the layers changed."""
        self._refuse_both(self.config.lora)
        self.config.bias_tuning = True
        return add_bias_tuning(self.language_model)

    def merge_bias_tuning(self) -> list[str]:
        """Folds bias tuning into plain Linear layers with biases, and says so in the configuration, for loading.

        Raises EarthGPTError, before anything is changed, for a kind of language model whose configuration cannot.
        """
        configurations = (self.config.text_config, self.language_model.config)
        biases = ("attention_bias", "mlp_bias")  # as Llama and its kin call them
        if not all(hasattr(one, name) for one in configurations for name in biases):
            kind = self.config.text_config.model_type
            raise EarthGPTError(f"A {kind} cannot hold the biases of a merged model; keep its bias tuning as it is.")
        for one in configurations:
            for name in biases:
                setattr(one, name, True)
        self.config.bias_tuning = False
        return merge_bias_tuning(self.language_model)

    def add_lora(self, rank: int, alpha: float, dropout: float = 0.0, targets: Sequence[str] = ()) -> list[str]:
        """Gives the language model a LoRA (``lora.add_lora``), keeping all weights; names the layers changed.

        A model that has one keeps it, and its settings. Raises EarthGPTError when it has bias tuning.
        """
        self._refuse_both(self.config.bias_tuning)
        if self.config.lora:
            return []
        settings = {"rank": rank, "alpha": alpha, "dropout": dropout, "targets": list(targets)}
        changed = add_lora(self.language_model, **settings)
        self.config.lora = settings
        return changed

    def merge_lora(self) -> list[str]:
        """Folds the LoRA into plain Linear layers, and says so in the configuration; names the layers changed."""
        self.config.lora = None
        return merge_lora(self.language_model)

    def add_dense_heads(self, vocabulary: Vocabulary) -> None:
        """Gives the model dense heads for these classes; it keeps the ones that it has for the same classes."""
        self.config.dense = vocabulary.to_dict()
        if self.dense_heads is None or self.dense_heads.vocabulary != vocabulary:
            self.dense_heads = self._new_heads(vocabulary)
        self.dense_heads.vocabulary = vocabulary

    def _new_heads(self, vocabulary: Vocabulary) -> DenseHeads:
        return DenseHeads(self.config.text_config.hidden_size, self.config.detail_widths, vocabulary)

    @torch.no_grad()
    def scene(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """How likely the dense heads find each class of the scene of images [n, 3, S, S]: [n, S], rows sum to 1.

        Only a model with dense heads can be asked, here and in ``find``.
        """
        tokens = self.get_image_features(pixel_values)[:, 1:-1]
        return self.dense_heads.scene(tokens.mean(dim=1)).float().softmax(-1)

    @torch.no_grad()
    def find(
        self, views: Iterable[torch.Tensor], classes: Sequence[str], least: float
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The objects that the dense heads find in each of n images (``DenseHeads.find``), which are given in one or
        several sizes, pixels [n, 3, S, S] each."""
        read = ((self._visual_tokens(features)[:, 1:-1], details)
                for features, details in (self._encode(view, details=True) for view in views))  # fmt: skip
        return self.dense_heads.find(read, classes, least)

    def drop_dense_heads(self) -> list[str]:
        """Takes the dense heads away, if there are some: the language model answers all; names their layers."""
        heads = self.dense_heads.named_children() if self.dense_heads else ()
        names = [f"dense_heads.{name}" for name, _ in heads]
        self.config.dense = self.dense_heads = None
        return names

    @staticmethod
    def _refuse_both(other: object) -> None:
        if other:
            raise EarthGPTError("A model has LoRA or bias tuning, not both: merge it first (earthgpt models merge).")

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[n, 3, S, S] pixels to [n, tokens_per_image, D]: image start, visual tokens, image end."""
        return self._visual_tokens(self._encode(pixel_values))

    def _encode(self, pixel_values: torch.Tensor, details: bool = False):
        trained = any(parameter.requires_grad for parameter in self.vision_encoder.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):  # frozen encoders keep no activations
            return self.vision_encoder(pixel_values, details)  # [n, h*w, C]

    def _visual_tokens(self, features: torch.Tensor) -> torch.Tensor:
        visual = self.mm_projector(features.to(self.mm_projector.norm.weight.dtype))  # [n, h*w, D]
        start = self.image_start.to(visual.dtype).expand(len(visual), 1, -1)
        end = self.image_end.to(visual.dtype).expand(len(visual), 1, -1)
        return torch.cat([start, visual, end], dim=1)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        segments: Sequence[Segment] | None = None,
        image_features: torch.Tensor | None = None,
        known: torch.BoolTensor | None = None,
        dense_targets: DenseTargets | None = None,
        past_key_values=None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> EarthGPTOutput:
        """One pass.

        labels [B, T]: the token itself where it is to be learned, -100 elsewhere; shifted here.
        segments: of a packed row [1, T], from its first place to its last (``attention.Segment``): conversations one
            after the other, and independent questions about an image that share its tokens; ``position_ids`` say where
            each token stands in its own conversation.
        image_features, known: features [m, h * w, C] of images that were encoded before, and which of the n images of
            the batch these are [n]; ``pixel_values`` are those of the others. All are then rounded to bfloat16, so that
            it makes no difference which.
        dense_targets: what the dense heads should say of the n images. Without ``input_ids`` that is all that is
            asked, and the language model does not run.
        Raises ValueError when pixels and image places do not match, and for segments where the language model does not
        use torch's attention ("sdpa", the default).
        """
        if inputs_embeds is None and input_ids is not None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # [B, T, D]
        features = encoded = details = None
        if pixel_values is not None and dense_targets is not None:
            encoded, details = self._encode(pixel_values, details=True)
        elif pixel_values is not None:
            encoded = self._encode(pixel_values)
        features = encoded
        if known is not None:
            parts = [one.to(torch.bfloat16) for one in (image_features, encoded) if one is not None]
            features = torch.cat(parts)[torch.argsort(torch.argsort(~known, stable=True))]
        dense_loss = None
        if features is not None:
            images = self._visual_tokens(features)
            if dense_targets is not None:
                dense_loss = self.dense_heads(images[:, 1:-1], details, dense_targets)
            if inputs_embeds is None:
                return EarthGPTOutput(encoded=encoded, dense_loss=dense_loss)
            images = images.to(inputs_embeds.dtype)
            places = input_ids == self.config.image_token_id  # [B, T]
            if int(places.sum()) != images.shape[0] * images.shape[1]:
                raise ValueError(
                    f"{images.shape[0]} image(s) fill {images.shape[0] * images.shape[1]} places, "
                    f"but the text has {int(places.sum())} image tokens."
                )
            inputs_embeds = inputs_embeds.masked_scatter(places[..., None], images)
        if segments is not None:
            if self.language_model.config._attn_implementation != NAME:
                raise ValueError("Packed rows need torch's attention: load the model with attn_implementation='sdpa'.")
            # A mask of four dimensions is left alone: nothing is made of it, and nothing looks at it.
            attention_mask = inputs_embeds.new_zeros(1, 1, 1, 1)
            kwargs["segments"] = segments
        if labels is not None:
            following = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)  # [B, T]
            logits_to_keep = (following != IGNORED).any(dim=0).nonzero()[:, 0]  # [K]
        output = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        loss = None
        if labels is not None:
            targets = following[:, logits_to_keep].flatten()
            logits = output.logits.flatten(0, 1).float()
            loss = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
            loss = loss / (targets != IGNORED).sum().clamp(min=1)  # a batch without labels has a loss of 0, not NaN
        return EarthGPTOutput(loss, output.logits, output.past_key_values, encoded, dense_loss)

    def prepare_inputs_for_generation(self, input_ids, pixel_values=None, is_first_iteration=False, **kwargs):
        """Pixels go in with the first step only; later steps find them in the cache."""
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs["pixel_values"] = pixel_values
        return inputs
