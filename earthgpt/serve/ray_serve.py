"""The server on Ray Serve: several replicas of the application, on one machine or many, behind one address."""

from __future__ import annotations

from typing import Any

from earthgpt.serve.app import Settings
from earthgpt.types import EarthGPTError


def application(
    settings: Settings,
    model: str,
    replicas: int,
    gpus: float = 0.0,
    dtype: str | None = None,
    compiled: bool | None = False,
) -> Any:
    """What ``ray.serve.run`` takes: replicas that each load the model and have an engine and kept images of their own.

    model: a name, folder or hub id, found under the same path on every machine. gpus: of each replica. dtype, compiled:
    as of ``earthgpt.load``. A reply says in ``x-replica`` which one it is from. Raises EarthGPTError where Ray is not
    installed, and for jobs.
    """
    try:
        from ray import serve
    except ImportError:
        raise EarthGPTError("This engine needs Ray: pip install 'earthgpt[ray,serve]'.") from None
    if settings.jobs is not None:
        raise EarthGPTError("A job belongs to one server: leave --jobs out with Ray, or serve jobs without it.")

    def build() -> Any:  # called in every replica
        from earthgpt.assistant import load
        from earthgpt.serve.app import create_app

        app = create_app(settings, load(model, dtype=dtype, compiled=compiled))
        app.add_middleware(_Named, name=serve.get_replica_context().replica_id.unique_id)
        return app

    deployed = serve.deployment(serve.ingress(build)()).options(
        name="EarthGPT",
        num_replicas=replicas,
        # A replica refuses by itself what is too much for it; Ray holds back no more than as much again.
        max_ongoing_requests=2 * settings.most_waiting,
        max_queued_requests=settings.most_waiting,
        graceful_shutdown_timeout_s=settings.limits.seconds + 1,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
    )
    return deployed.bind()


def run(
    settings: Settings,
    model: str,
    host: str,
    port: int,
    replicas: int,
    dtype: str | None = None,
    compiled: bool | None = False,
) -> None:
    """Serves until it is told to stop, on the cluster that RAY_ADDRESS names, or else on this machine.

    Raises EarthGPTError as ``application`` does, and where it cannot start.
    """
    import signal
    from contextlib import suppress

    import torch

    bound = application(settings, model, replicas, float(torch.cuda.is_available()), dtype, compiled)
    import ray
    from ray import serve

    ray.init(include_dashboard=False, log_to_driver=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # in place of Ray's, which aborts
    try:
        serve.start(http_options={"host": host, "port": port})
        with suppress(KeyboardInterrupt):  # the way to stop it
            serve.run(bound, blocking=True)
    except RuntimeError as error:
        raise EarthGPTError(f"The replicas could not start: {error}") from None
    finally:
        serve.shutdown()
        ray.shutdown()


class _Named:
    """ASGI middleware that tells which replica a reply is from."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name.encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def tell(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-replica", self.name)]}
            await send(message)

        await self.app(scope, receive, tell)
