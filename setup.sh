#!/usr/bin/env bash
# ./setup.sh [extras]        sets up .venv; extras are those of pyproject.toml, "dev" unless told
#
# TORCH=<spec>               this PyTorch, as pip would be told
# TORCH_BACKEND=cpu|cu130|…  PyTorch for this backend, as `uv pip --torch-backend` names them
# PYTHON=<python>            the interpreter to build .venv from; python3 unless told
set -euo pipefail
cd "$(dirname "$0")"
extras=${1:-dev}
venv=${VENV:-.venv}
done_mark=$venv/.setup-$extras
say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

# Nothing to do when the same extras were set up from the same files.
wanted=$(cat setup.sh pyproject.toml requirements/constraints.txt | cksum)
[ -f "$done_mark" ] && [ "$(cat "$done_mark")" = "$wanted" ] && exit 0

if [ ! -x "$venv/bin/python" ]; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "EarthGPT needs Python 3.11 or newer; $python is $("$python" -V). Set PYTHON=<a newer one>." >&2; exit 1; }
  say "Creating $venv ..."
  "$python" -m venv "$venv"
fi
py=$venv/bin/python
[ -x "$venv/bin/uv" ] || "$py" -m pip install -qq --disable-pip-version-check uv

# uv reads none of pip's settings: hand over the folder of local wheels that pip was given, if any.
if [ -z "${UV_FIND_LINKS:-}" ]; then
  UV_FIND_LINKS=${PIP_FIND_LINKS:-$("$py" -m pip config get global.find-links 2>/dev/null || true)}
fi
[ -n "$UV_FIND_LINKS" ] && export UV_FIND_LINKS || unset UV_FIND_LINKS
export UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV="$(cd "$venv" && pwd)"
install() { "$venv/bin/uv" pip install -q "$@"; }

# PyTorch first, in the build that suits the machine; nothing after it may replace it.
if ! "$py" -c 'import torch' 2>/dev/null; then
  say "Installing PyTorch ..."
  if   [ -n "${TORCH:-}" ]; then install "$TORCH"
  elif [ -n "${TORCH_BACKEND:-}" ]; then install --torch-backend "$TORCH_BACKEND" "torch>=2.6"
  elif nvidia-smi -L >/dev/null 2>&1 || [ "$(uname -s)" = Darwin ]; then install "torch>=2.6"
  elif [ -n "${UV_FIND_LINKS:-}" ] && install --dry-run --no-index --no-deps torch==2.13.0+cpu 2>/dev/null; then install torch==2.13.0+cpu
  else install --torch-backend cpu "torch>=2.6"; fi
fi
"$py" -c 'import torch; print("torch==" + torch.__version__)' > "$venv/torch.txt" 2>/dev/null

say "Installing EarthGPT and its libraries ..."
install -c "$venv/torch.txt" -c requirements/constraints.txt -e ".[$extras]"

# The page is tested in a browser: Debian's, where none is there and it may be installed.
if [[ $extras == *dev* ]] && ! command -v chromium chromium-browser google-chrome >/dev/null \
  && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  say "Installing Chromium ..."
  apt-get install -y -qq --no-install-recommends chromium >/dev/null \
    || say "Chromium could not be installed: the tests of the page in a browser will be skipped."
fi
echo "$wanted" > "$done_mark"
say "Ready: . $venv/bin/activate"
