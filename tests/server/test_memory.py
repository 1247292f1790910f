"""Memory goes back to the system after a peak, and under steady work once in a while."""

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


def test_memory_is_given_back_once_in_a_while_whatever_arrives() -> None:
    for every, expected in (("0", "[True, False, False, False]"), ("60", "[False, False, False, False]")):
        script = _PEAK.replace("lambda: busy", f"lambda: True, every={every}")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        _, after, looks = done.stdout.split(" ", 2)
        assert looks.strip() == expected
        assert (int(after) < 10e6) == (every == "0")


_HOLES = """
import threading
from fastarchive.server.memory import keep_large_blocks_apart, resident

assert keep_large_blocks_apart()
before = resident()
kept = []

def work():
    # After a first large block is freed, glibc would put the next ones into the heap, where a small one behind each
    # of them keeps its pages.
    for size in [8_000_000] + [4_000_000] * 20:
        block = b"x" * size
        kept.append(b"y" * 1000)
        del block

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
    thread.join()
print(resident() - before)
"""


def test_a_large_block_leaves_no_hole_behind() -> None:
    done = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4e6
