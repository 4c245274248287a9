"""From a name to a model: the default one in the package, a folder, or an id on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from earthgpt.lookup import hint
from earthgpt.model.modeling import EarthGPTForConditionalGeneration
from earthgpt.model.processing import EarthGPTProcessor
from earthgpt.types import EarthGPTError

PRETRAINED = Path(__file__).parents[1] / "pretrained"
DEFAULT = "earthgpt-tiny"
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


def names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def locate(name: str | Path) -> str:
    """The folder of a model in the package, a folder as it is, or else the name as a hub id ("owner/name").

    Raises EarthGPTError when it can be none of them.
    """
    if not isinstance(name, str | Path):
        raise EarthGPTError(f"A model is named by text or the path of its folder, not by a {type(name).__name__}.")
    if (PRETRAINED / str(name) / "config.json").is_file():
        return str(PRETRAINED / str(name))
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            inside = Path(name) / "model"  # of a training run
            meant = f" Did you mean {inside}?" if (inside / "config.json").is_file() else ""
            raise EarthGPTError(f"{name} is not a model: the folder has no config.json.{meant}")
        return str(name)
    if str(name).count("/") == 1 and not str(name).startswith((".", "/")):
        return str(name)
    raise EarthGPTError(
        f"No model {str(name)!r}.{hint(str(name), names())} Name one of {', '.join(names())}, a folder, or a hub id "
        "owner/name."
    )


def reason_of(error: Exception) -> str:
    """What transformers says is wrong, in one line."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    # All kinds that there are, or what to do about a kind that transformers itself should have.
    known, one, _ = said.partition(" Should contain one of")
    unknown = bool(one) or "does not recognize this architecture" in said
    return f"{known} Import the module that registers it, or name one of transformers." if unknown else known


def load(
    name: str | Path = DEFAULT, dtype: str = "float32"
) -> tuple[EarthGPTForConditionalGeneration, EarthGPTProcessor]:
    """A model in evaluation mode, with its processor. Raises EarthGPTError when there is none.

    dtype: of the weights, one of ``DTYPES``; "auto" takes them as they were saved.
    """
    place, dtype = locate(name), str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise EarthGPTError(f"The dtype of weights is one of {', '.join(DTYPES)}; not {dtype!r}.")
    logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(place)
        model, found = AutoModelForImageTextToText.from_pretrained(
            place, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = reason_of(error)
        what = "There is no folder" if place == str(name) and not Path(name).exists() else "Cannot load the model"
        also = ", and no such model on the hub" if what.startswith("There") else ""
        raise EarthGPTError(f"{what} {str(name)!r}{also}: {reason}") from error
    if not isinstance(model, EarthGPTForConditionalGeneration):
        raise EarthGPTError(f"{str(name)!r} is a {type(model).__name__}, not an EarthGPT.")
    absent = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if absent:
        raise EarthGPTError(
            f"The weights of {str(name)!r} are damaged or of another version of EarthGPT: {absent[0]} is missing or "
            f"has another shape than its config.json asks for ({len(absent)} in all)."
        )
    return model.eval(), processor
