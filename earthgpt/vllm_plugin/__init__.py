"""EarthGPT in vLLM: vLLM finds ``register`` by the entry point ``vllm.general_plugins`` and calls it in every process.

Without vLLM nothing here is ever imported. docs/serving.md says how to use it.
"""

from __future__ import annotations


def register() -> None:
    """Tells transformers and vLLM of EarthGPT; vLLM imports the model itself only when it is asked for one."""
    from vllm import ModelRegistry

    import earthgpt.model  # registers configuration and processor with the Auto classes

    name = earthgpt.model.EarthGPTForConditionalGeneration.__name__
    ModelRegistry.register_model(name, f"{__name__}.model:{name}")
