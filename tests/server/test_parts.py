"""The parts of the processes that can be tried without any process."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import anyio
import pytest

from fastarchive import settings
from fastarchive.server.backoff import HEALTHY_AFTER, LONGEST_DELAY, Backoff
from fastarchive.server.child import Child, StartFailed
from fastarchive.server.control import Orders
from fastarchive.server.listeners import ListenError, listen, port_of, takers
from fastarchive.server.notify import notify
from fastarchive.server.run_directory import AlreadyRunning, RunDirectory
from fastarchive.server.worker import makers


def test_pauses_grow_and_stay_bounded() -> None:
    backoff = Backoff()
    assert backoff.delay == 0
    delays = []
    for _ in range(20):
        backoff = backoff.ended(lifetime=0.1)
        delays.append(backoff.delay)
    assert delays == sorted(delays)
    assert (delays[0], delays[1], delays[-1]) == (0.1, 0.2, LONGEST_DELAY)


def test_a_long_life_forgives_what_was_before() -> None:
    backoff = Backoff(failures=7).ended(lifetime=HEALTHY_AFTER)
    assert backoff == Backoff(failures=1)


def test_port_0_picks_a_free_port_and_a_taken_one_is_told() -> None:
    with listen("127.0.0.1", 0, "dicom_port") as first:
        port = port_of(first)
        assert port > 0
        assert not first.getblocking()
        with pytest.raises(
            ListenError, match=f"dicom_port = {port}: can't listen on 127.0.0.1:{port}: Address already"
        ):
            listen("127.0.0.1", port, "dicom_port")


def test_host_that_is_none_is_told() -> None:
    with pytest.raises(ListenError, match=r'host = "no\.such\.host\.invalid"'):
        listen("no.such.host.invalid", 0, "dicom_port")


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6_is_fine() -> None:
    with listen("::1", 0, "http_port") as listener:
        assert listener.family is socket.AF_INET6


def test_second_archive_on_a_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    with first.locked():
        holder = first.read("supervisor.pid")
        with pytest.raises(AlreadyRunning, match=rf"process {holder}.*--data"), second.locked():
            pass
        assert first.read("supervisor.pid") == holder
    assert first.read("supervisor.pid") == ""
    with second.locked():
        assert second.read("supervisor.pid") == holder


def test_a_data_folder_that_is_made_is_closed_to_others(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    with RunDirectory(data).locked():
        assert data.stat().st_mode & 0o007 == 0


def test_run_folder_forgets_an_earlier_life(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.metrics.mkdir(parents=True)
    (run.metrics / "counter_1.db").write_bytes(b"old")
    run.write("dicom-port", "1\n")
    run.write_processes([{"role": "worker"}])
    with run.locked():
        assert run.read("dicom-port") == ""
        assert run.processes() == []
        assert list(run.metrics.iterdir()) == []


def test_processes_are_read_as_written(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.path.mkdir()
    states = [{"role": "worker", "name": "worker-1", "pid": 7, "state": "running", "restarts": 0}]
    run.write_processes(states)
    assert run.processes() == []  # left by an archive that was killed
    run.write("supervisor.pid", f"{2**22 + 1}\n")  # more than any process number
    assert run.processes() == []
    run.write("supervisor.pid", f"{os.getpid()}\n")
    assert run.processes() == states
    (run.path / "processes.json").write_text("{")
    assert run.processes() == []


def test_a_process_that_can_not_even_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    child = Child(
        role="worker",
        module="fastarchive.server.worker",
        orders=Orders(name="worker-1", settings=settings.load({}, environ={})),
        environment={},
        changed=lambda: None,
        ended=lambda role, pid: None,
    )
    with pytest.raises(StartFailed, match=r"worker-1 can't be started: .*python: No such file"):
        anyio.run(child.keep)
    assert child.gone.is_set()


def test_orders_travel() -> None:
    orders = Orders(
        name="worker-1",
        settings=settings.load({"workers": 2}, environ={}),
        dicom_descriptor=7,
        http_descriptor=8,
        shared_descriptor=9,
        place=1,
        passages=(10, 11),
        inbox=12,
    )
    line = orders.encode()
    assert line.count(b"\n") == 1
    assert Orders.decode(line) == orders
    assert sorted(orders.descriptors) == [7, 8, 9, 10, 11, 12]
    assert Orders(name="indexer", settings=orders.settings).descriptors == []


@pytest.mark.parametrize(("workers", "taking"), [(1, 0), (2, 1), (3, 1), (4, 2), (64, 32)])
def test_half_of_the_workers_take_what_only_stores(workers: int, taking: int) -> None:
    assert takers(workers) == taking
    loaded = settings.load({"workers": workers}, environ={})
    processors = len(os.sched_getaffinity(0))
    made = [makers(loaded, place) for place in range(workers)]
    assert sum(made[: taking or 1]) == max(processors // (taking or 1), 1) * (taking or 1)
    assert set(made[taking or 1 :]) <= {1}


def test_systemd_is_told_when_it_wants_to_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(address))
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        notify("READY=1")
        assert end.recv(100) == b"READY=1"
    notify("STOPPING=1")
