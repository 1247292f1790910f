"""The HTTP application: /healthz, /readyz, /metrics, /status, /explain and a start page with the status."""

from __future__ import annotations

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fastarchive.metrics import CONTENT_TYPE, exposition
from fastarchive.web.explain import ExplainError, explain_request, wants_json
from fastarchive.web.page import start_page
from fastarchive.web.readiness import is_degraded, is_ready
from fastarchive.web.state import WebState

_NOT_CACHED = {"Cache-Control": "no-store"}


def create_app(state: WebState) -> Starlette:
    """The application over one worker's state."""

    async def healthz(request: Request) -> Response:
        """200 as long as this process answers at all: for restarting what hangs."""
        return PlainTextResponse("ok\n", headers=_NOT_CACHED)

    async def readyz(request: Request) -> Response:
        """200 if the archive should be given work, 503 if not; either way with every check and how it stands.

        Degraded is ready, but for one kind of work: below the disk's reserve nothing is stored.
        """
        checks = await anyio.to_thread.run_sync(state.readiness)
        body = {
            "ready": is_ready(checks),
            "degraded": is_degraded(checks),
            "checks": {check.name: {"ready": check.ready, "detail": check.detail} for check in checks},
        }
        return JSONResponse(body, 200 if body["ready"] else 503, headers=_NOT_CACHED)

    async def metrics(request: Request) -> Response:
        """All processes' metrics in Prometheus' text format."""
        body = await anyio.to_thread.run_sync(exposition, state.metrics)
        return Response(body, headers={"Content-Type": CONTENT_TYPE, **_NOT_CACHED})

    async def status(request: Request) -> Response:
        """Everything there is to say, as JSON: what ``fastarchive status --server`` shows."""
        return JSONResponse(await anyio.to_thread.run_sync(state.status), headers=_NOT_CACHED)

    async def explain(request: Request) -> Response:
        """How a query is read and answered, as text or JSON; 400 with the reason for one that can't be asked."""
        parameters = request.query_params.multi_items()
        try:
            as_json = wants_json(parameters, request.headers.get("accept", ""))
            explanation = await anyio.to_thread.run_sync(explain_request, state.archive, parameters)
        except ExplainError as error:
            return PlainTextResponse(f"{error}\n", 400, headers=_NOT_CACHED)
        if as_json:
            return JSONResponse(explanation.as_json(), headers=_NOT_CACHED)
        return PlainTextResponse("\n".join(explanation.lines()) + "\n", headers=_NOT_CACHED)

    async def index(request: Request) -> Response:
        """The status for people."""
        return HTMLResponse(start_page(await anyio.to_thread.run_sync(state.status)), headers=_NOT_CACHED)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/status", status),
            Route("/explain", explain),
        ]
    )
