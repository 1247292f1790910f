"""The HTTP application over an archive that is made to misbehave."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest

from fastarchive import settings
from fastarchive.archive import Archive
from fastarchive.metrics import Metrics
from fastarchive.store.writers import LogStatus
from fastarchive.web.app import create_app
from fastarchive.web.state import WebState

RUNNING = [{"role": "indexer", "name": "indexer", "pid": 1, "state": "running", "restarts": 0}]


class FakeArchive:
    """Also its index."""

    def __init__(self) -> None:
        self.index = self
        self.error: Exception | None = None
        self.log = LogStatus(None, 0, 0, 0, 0, 0)

    def log_status(self) -> LogStatus:
        return self.log

    def tail_length(self) -> int:
        if self.error is not None:
            raise self.error
        return 3

    def disagreements(self) -> int:
        return 2

    def status(self) -> dict[str, Any]:
        return {"instances": 7}


class Site:
    """The application and what stands behind it."""

    def __init__(self, data: Path, **options: object) -> None:
        self.archive = FakeArchive()
        self.processes: list[dict[str, Any]] = RUNNING
        self.state = WebState(
            archive=cast(Archive, self.archive),
            metrics=Metrics(),
            settings=settings.load({"data": data, **options}, environ={}),
            processes=lambda: self.processes,
        )
        self.app = create_app(self.state)

    def get(self, path: str, method: str = "GET") -> httpx.Response:
        """What the application answers."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
                return await client.request(method, path)

        return anyio.run(ask)

    def failing(self) -> set[str]:
        """The checks that fail by what /readyz answers."""
        answer = self.get("/readyz")
        body = answer.json()
        failing = {name for name, check in body["checks"].items() if not check["ready"]}
        assert answer.status_code == (200 if body["ready"] else 503)
        assert body["ready"] is (failing <= {"disk", "writing"})
        assert body["degraded"] is (body["ready"] and failing != set())
        return failing


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_ready(site: Site) -> None:
    assert site.failing() == set()


def test_not_ready_while_draining(site: Site) -> None:
    site.state.draining = True
    assert site.failing() == {"serving"}


def test_not_ready_without_index_writer(site: Site) -> None:
    site.processes = [{"role": "indexer", "state": "waiting"}]
    assert site.failing() == {"index writer"}


def test_degraded_when_the_disk_is_full(tmp_path: Path) -> None:
    site = Site(tmp_path, reserve="1000TiB")
    assert site.failing() == {"disk"}
    assert ">degraded<" in site.get("/").text


def test_degraded_while_the_disk_does_not_answer(site: Site) -> None:
    site.archive.log = site.archive.log._replace(stalled=40.0)
    assert site.failing() == {"writing"}
    site.state.observe()
    assert "fastarchive_log_stalled_seconds 40.0\n" in site.get("/metrics").text


def test_degraded_while_the_disk_fails(site: Site) -> None:
    site.archive.log = site.archive.log._replace(failure="Input/output error")
    assert site.failing() == {"writing"}
    site.state.observe()
    assert "fastarchive_log_failing 1.0\n" in site.get("/metrics").text


def test_not_ready_when_the_archive_fails_and_alive_all_the_same(site: Site) -> None:
    site.archive.error = OSError(5, "Input/output error")
    assert site.failing() == {"archive"}
    assert "Input/output" not in site.get("/readyz").text
    assert site.get("/healthz").text == "ok\n"


def test_status_and_start_page(site: Site) -> None:
    status = site.get("/status").json()
    assert status["archive"] == {"instances": 7}
    assert status["processes"] == RUNNING
    page = site.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "FASTARCHIVE" in page.text


def test_metrics(site: Site) -> None:
    site.state.observe()
    answer = site.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "fastarchive_index_tail_records 3.0\n" in answer.text
    assert "fastarchive_disagreeing_studies 2.0\n" in answer.text


def test_nothing_may_be_kept_by_a_cache(site: Site) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/status"):
        assert site.get(path).headers["cache-control"] == "no-store"


def test_other_paths_and_methods(site: Site) -> None:
    assert site.get("/none").status_code == 404
    assert site.get("/status", "POST").status_code == 405
