"""Plain instances on their way in by the shortest way: from the pieces of a data set to its durable record without the
interpreter, and no future.

Only the plain case goes this way (``native/plain.c``): a data set of up to a megabyte in Explicit VR Little Endian with
nothing to find fault with, whose UID nobody knows yet. Whatever is different takes the way through an
:class:`Intake`, which comes to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastarchive.admission import Admission
from fastarchive.native.line import MOST
from fastarchive.store.line import Beginning, Line, Sender, Stored
from fastarchive.store.writers import LogStatus

__all__ = ["MOST", "Beginning", "PlainInstances", "Sender", "Stored"]


class PlainInstances:
    """Lets plain instances into the archive. For one thread, which is never made to wait."""

    def __init__(self, admission: Admission, line: Line) -> None:
        self._admission = admission
        self._line = line

    @property
    def bell(self) -> int:
        """A file descriptor that can be read when :meth:`landed` is to be called."""
        return self._line.bell

    def status(self) -> LogStatus:
        """Counters of what it wrote since it was opened."""
        return self._line.status()

    @property
    def stalled(self) -> float:
        """Seconds the disk has been at the group that is being written."""
        return self._line.stalled

    def begin(self, sop_instance: str, pieces: Sequence[bytes], sender: Sender) -> Beginning | None:
        """Begin the record of a data set of which these pieces have arrived, if there is nothing better to do. Nobody
        is let in by that: it has to be offered when it has come to its end, or to be dropped."""
        return self._line.begin(sop_instance, sender, pieces)

    def offer(
        self,
        token: Any,
        sop_instance: str,
        pieces: Sequence[bytes],
        sender: Sender,
        beginning: Beginning | None = None,
    ) -> bool:
        """Take on a data set of up to :data:`MOST` bytes, whose affected SOP Instance UID this is: :meth:`landed` tells
        what becomes of it, by its token. beginning: what :meth:`begin` gave for it.

        False, and nothing was done, for one that doesn't go this way. Raises OSError when the index can't be read.
        """
        if not self._admission.begin(sop_instance, sender.calling_ae):
            return False
        if self._line.offer(token, sop_instance, sender, pieces, beginning):
            return True
        self._admission.withdraw(sop_instance)
        return False

    def landed(self) -> list[Stored]:
        """What has become of some instances; to be called when the bell rings."""
        stored = self._line.landed()
        if stored:
            self._admission.end([(one.sop_instance, one.error) for one in stored])
        return stored

    def close(self) -> None:
        """Make durable what was taken on; nobody is told."""
        self._admission.end([(one.sop_instance, one.error) for one in self._line.close()])
