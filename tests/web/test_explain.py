"""GET /explain over a small archive: what it shows, and what it must not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from fastarchive import settings
from fastarchive.archive import Archive
from fastarchive.metrics import Metrics
from fastarchive.web.app import create_app
from fastarchive.web.state import WebState
from tests.server.instances import write_instances


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Asks the application over an archive with 30 instances in three studies of TEST^NUMBER0 to 2."""
    folder = tmp_path_factory.mktemp("explained")
    with Archive.open(folder / "data") as archive:
        for path in write_instances(folder / "images", range(30)):
            archive.import_file(path)
        state = WebState(
            archive=archive,
            metrics=Metrics(),
            settings=settings.load({"data": folder / "data"}, environ={}),
            processes=lambda: [],
        )
        app = create_app(state)

        def get(path: str, **headers: str) -> httpx.Response:
            async def ask() -> httpx.Response:
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
                    return await client.get(path, headers=headers)

            return anyio.run(ask)

        yield get


def test_json_tells_counts_and_times(client: Any) -> None:
    answer = client("/explain?level=study&PatientName=TEST*&format=json").json()
    assert (answer["level"], answer["model"], answer["complete"]) == ("STUDY", "Study Root", True)
    assert answer["plan"]["found"] == 3
    assert answer["plan"]["milliseconds"] > 0
    (name,) = [key for key in answer["keys"] if key["keyword"] == "PatientName"]
    assert (name["kind"], name["matching"], name["clause"], name["rule"]) == (
        "required",
        "wild card",
        "PS3.4 C.2.2.2.4",
        "M5",
    )


def test_text_is_what_the_command_line_prints(client: Any) -> None:
    answer = client("/explain?level=IMAGE&PatientID=P1")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("IMAGE query in Study Root, relational\nkeys\n")
    assert "find IMAGE: 10 found" in answer.text
    assert client("/explain?level=IMAGE", accept="application/json").json()["plan"]["found"] == 30


def test_no_patient_data_unless_the_values_asked_for_are_wanted(client: Any) -> None:
    for path in ("/explain?level=STUDY&PatientName=TEST^NUMBER1", "/explain?level=STUDY&PatientID=P1"):
        for form in ("text", "json"):
            shown = client(f"{path}&format={form}").text
            assert "1 found" in shown or '"found":1' in shown
            assert not any(word in shown for word in ("TEST", "test", "NUMBER1", "number1", "P1"))
    assert "PatientID is P1" in client("/explain?level=STUDY&PatientID=P1&values=true").text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "level is missing"),
        ("level=WARD", "is no level"),
        ("level=STUDY&PatientNam=A", "did you mean PatientName"),
        ("level=STUDY&StudyDate=yesterday", "not a value or range"),
        ("level=STUDY&PatientID=1&PatientID=2", "given twice"),
        ("level=STUDY&format=xml", "format: text or json"),
    ],
)
def test_what_cannot_be_explained_is_400_with_the_reason(client: Any, query: str, said: str) -> None:
    answer = client(f"/explain?{query}")
    assert answer.status_code == 400
    assert said in answer.text


def test_what_is_returned_can_be_chosen(client: Any) -> None:
    answer = client("/explain?level=STUDY&return=StudyDate&return=StudyTime&format=json").json()
    assert [key["keyword"] for key in answer["keys"]] == ["StudyDate", "StudyTime"]
    assert {key["matching"] for key in answer["keys"]} == {"universal"}
