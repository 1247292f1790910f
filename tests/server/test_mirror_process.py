"""A mirror under a running archive: written, kept complete when a process dies, and healed from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from fastarchive.store.mirror import seal_of
from fastarchive.store.pack import PAGE, list_packs, pack_path
from tests.server.harness import RunningArchive, eventually
from tests.server.instances import write_instances


def test_both_copies_survive_a_killed_worker_and_damage_is_healed(tmp_path: Path) -> None:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir()
    files = write_instances(tmp_path / "images", range(12))
    with RunningArchive(data, workers=1, mirror=mirror) as archive:
        subprocess.run(
            ["storescu", "-aec", archive.ae_title, archive.host, str(archive.dicom_port), *map(str, files)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        (pack,) = list_packs(data)
        assert list_packs(mirror) == [pack]
        archive.kill_process(archive.processes("worker")[0])
        eventually("both copies are sealed", lambda: seal_of(data, pack) and seal_of(mirror, pack))
        content = pack_path(data, pack).read_bytes()[PAGE:]
        assert pack_path(mirror, pack).read_bytes()[PAGE:] == content
        with pack_path(data, pack).open("r+b") as file:
            file.seek(PAGE + 300)
            file.write(b"damage")
        result = archive.run_command("verify", "--data", str(data), "--mirror", str(mirror), "--repair", "--json")
        assert result.returncode == 0, result.stdout
        report = json.loads(result.stdout)
        assert len(report["found"]) == 1
        assert report["records"] == len(files)
        assert pack_path(data, pack).read_bytes()[PAGE:] == content
