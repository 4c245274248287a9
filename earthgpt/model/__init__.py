"""The model as Hugging Face classes, registered with the Auto classes on import."""

import os

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from earthgpt.lookup import import_all
from earthgpt.model.configuration import EarthGPTConfig
from earthgpt.model.modeling import EarthGPTForConditionalGeneration
from earthgpt.model.processing import EarthGPTProcessor

AutoConfig.register("earthgpt", EarthGPTConfig)
AutoModelForImageTextToText.register(EarthGPTConfig, EarthGPTForConditionalGeneration)
AutoProcessor.register(EarthGPTConfig, EarthGPTProcessor)

__all__ = ["EarthGPTConfig", "EarthGPTForConditionalGeneration", "EarthGPTProcessor"]

import_all(os.environ.get("EARTHGPT_PLUGINS", ""))  # which register encoders of their own; they may use what is above
