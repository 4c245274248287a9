# The server in a container.
#
#   docker build -t earthgpt .                                                          # CPU
#   docker build -t earthgpt:cuda --build-arg BACKEND=cu130 .                           # CUDA
#   docker run --rm -p 127.0.0.1:8000:8000 -v earthgpt-jobs:/jobs -e EARTHGPT_API_KEY=SECRET earthgpt
#   docker run --rm --gpus all -p 127.0.0.1:8000:8000 -v /models:/models:ro -e EARTHGPT_API_KEY=SECRET earthgpt:cuda --model /models/mine
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
# Of PyTorch: cpu, or cu126, cu130, ...; its CUDA wheels bring the CUDA libraries, the machine has the driver.
ARG BACKEND=cpu
WORKDIR /src
RUN python -m pip install --no-cache-dir uv && python -m venv /opt/earthgpt
ENV VIRTUAL_ENV=/opt/earthgpt UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
COPY requirements/constraints.txt requirements/constraints.txt
# PyTorch first, in a layer of its own: it is most of the image, and changes least.
RUN uv pip install --torch-backend ${BACKEND} "torch>=2.6" \
    && /opt/earthgpt/bin/python -c 'import torch; print("torch==" + torch.__version__)' > torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY earthgpt earthgpt
COPY recipes recipes
RUN uv pip install -c torch.txt -c requirements/constraints.txt ".[serve]"

FROM python:${PYTHON}-slim
# rasterio's wheel takes expat from the system.
RUN apt-get update && apt-get install -y --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home earthgpt && mkdir /jobs && chown earthgpt /jobs
COPY --from=build /opt/earthgpt /opt/earthgpt
USER earthgpt
WORKDIR /home/earthgpt
ENV PATH=/opt/earthgpt/bin:$PATH PYTHONUNBUFFERED=1
VOLUME /jobs
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Inside, it listens to all: who reaches it is said by -p, and what they need by EARTHGPT_API_KEY.
ENTRYPOINT ["earthgpt", "serve", "--host", "0.0.0.0", "--port", "8000", "--jobs", "/jobs"]
