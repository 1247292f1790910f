"""Events that are set by a signal."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, threading
from fastarchive.signals import set_on
event = threading.Event()
assert set_on(signal.SIGTERM, event) is signal.SIG_DFL
with event._cond:  # as in a step of event.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass  # the handler has run
assert event.wait(20)
event.clear()
os.kill(os.getpid(), signal.SIGTERM)
assert event.wait(20)
print("set twice")
"""


def test_a_signal_that_interrupts_the_wait_for_its_event_sets_it() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "set twice\n"), done.stderr
