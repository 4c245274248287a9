"""The model as Hugging Face classes, registered with the Auto classes on import."""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from earthgpt.model.configuration import EarthGPTConfig
from earthgpt.model.modeling import EarthGPTForConditionalGeneration
from earthgpt.model.processing import EarthGPTProcessor

AutoConfig.register("earthgpt", EarthGPTConfig)
AutoModelForImageTextToText.register(EarthGPTConfig, EarthGPTForConditionalGeneration)
AutoProcessor.register(EarthGPTConfig, EarthGPTProcessor)

__all__ = ["EarthGPTConfig", "EarthGPTForConditionalGeneration", "EarthGPTProcessor"]
