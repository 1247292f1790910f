"""Memory goes back to the system after a peak, not in the middle of one."""

from __future__ import annotations

import subprocess
import sys

_PEAK = """
import threading
from fastarchive.server.memory import Trimmer, resident

busy = True
trimmer = Trimmer(lambda: busy)
before = resident()
kept, gone = [], []

def work():
    # Blocks below the threshold for mmap, the last of which stays: without a trim all before it stay, too.
    blocks = [b"x" * (100_000 + n) for n in range(1000)]
    kept.append(blocks[-1])

thread = threading.Thread(target=work)
thread.start()
thread.join()
peak = resident()
looks = [trimmer.look()]
busy = False
looks += [trimmer.look(), trimmer.look(), trimmer.look()]
print(peak - before, resident() - before, looks)
"""


def test_memory_is_given_back_when_nothing_arrives() -> None:
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    peak, after, looks = done.stdout.split(" ", 2)
    assert int(peak) > 80e6
    assert int(after) < 10e6
    assert looks.strip() == "[False, False, True, False]"
