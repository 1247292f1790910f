"""The HTTP application: /healthz, /readyz, /metrics, /status and a start page with the same facts."""

from __future__ import annotations

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fastarchive.metrics import CONTENT_TYPE, exposition
from fastarchive.web.page import start_page
from fastarchive.web.state import WebState

_NOT_CACHED = {"Cache-Control": "no-store"}


def create_app(state: WebState) -> Starlette:
    """The application over one worker's state."""

    async def healthz(request: Request) -> Response:
        """200 as long as this process answers at all: for restarting what hangs."""
        return PlainTextResponse("ok\n", headers=_NOT_CACHED)

    async def readyz(request: Request) -> Response:
        """200 if the archive should be given work, 503 if not; either way with every check and how it stands."""
        checks = await anyio.to_thread.run_sync(state.readiness)
        ready = all(check.ready for check in checks)
        body = {
            "ready": ready,
            "checks": {check.name: {"ready": check.ready, "detail": check.detail} for check in checks},
        }
        return JSONResponse(body, 200 if ready else 503, headers=_NOT_CACHED)

    async def metrics(request: Request) -> Response:
        """All processes' metrics in Prometheus' text format."""
        body = await anyio.to_thread.run_sync(exposition, state.metrics)
        return Response(body, headers={"Content-Type": CONTENT_TYPE, **_NOT_CACHED})

    async def status(request: Request) -> Response:
        """Everything there is to say, as JSON: what ``fastarchive status --server`` shows."""
        return JSONResponse(await anyio.to_thread.run_sync(state.status), headers=_NOT_CACHED)

    async def index(request: Request) -> Response:
        """The same for people."""
        return HTMLResponse(start_page(await anyio.to_thread.run_sync(state.status)), headers=_NOT_CACHED)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/status", status),
        ]
    )
