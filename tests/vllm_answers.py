"""Asks a model in vLLM, for test_vllm.py: runs in vLLM's own environment.

    python tests/vllm_answers.py MODEL CHATS ANSWERS

CHATS: a JSON list of {"images": files, "prompt": ids with one token for each image}. ANSWERS: a JSON list of
{"prompt": ids as the model got them, "answer": ids}, written.
"""

import json
import sys
from pathlib import Path

from PIL import Image
from vllm import LLM, SamplingParams


def main() -> None:
    """Greedy answers of at most 24 tokens, all chats in one batch."""
    model, chats, answers = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    engine = LLM(
        model, dtype="float32", max_num_seqs=8, enforce_eager=True, limit_mm_per_prompt={"image": 2}, seed=0
    )  # fmt: skip
    requests = [
        {
            "prompt_token_ids": chat["prompt"],
            "multi_modal_data": {"image": [Image.open(file) for file in chat["images"]]},
        }
        for chat in json.loads(chats.read_text())
    ]
    found = engine.generate(requests, SamplingParams(temperature=0, max_tokens=24), use_tqdm=False)
    rows = [{"prompt": list(one.prompt_token_ids), "answer": list(one.outputs[0].token_ids)} for one in found]
    answers.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
