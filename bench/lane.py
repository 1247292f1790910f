"""One association under way: operations from a source at the times its pace says, sent through a `Conversation`, and
the answers judged. All of its sockets and none of DICOM; its engine tells it when to go on.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator

from bench.conversation import Accepted, Answered, Buffer, Conversation, Delivered, Ended
from bench.engine import Engine
from bench.messages import RequestError
from bench.tally import Tally
from bench.work import Source, Task, Verdict

_BUFFERS = 64
"""Most buffers handed to the kernel in one call; it takes 1,024."""
_NOTHING_YET = 0.1
"""Seconds until a source that had nothing to do is asked again."""
_RECONNECT = 0.5
"""Seconds until an association that failed is opened again."""


class Lane:
    """One association that is opened again whenever it ends before its work does."""

    def __init__(
        self,
        engine: Engine,
        source: Source,
        tally: Tally,
        *,
        times: Iterator[float] | None = None,
        think: float = 0.0,
        per_association: int = 0,
        nagle: bool = False,
        operations: int = 0,
    ) -> None:
        """times: of an open loop, seconds from the start; None for a closed one. operations: at most, 0 any number."""
        self._engine = engine
        self._source = source
        self._tally = tally
        self._times = times
        self._think = think
        self._per_association = per_association
        self._nagle = nagle
        self._left = operations or -1
        self._socket: socket.socket | None = None
        self._conversation: Conversation | None = None
        self._out: deque[Buffer] = deque()
        self._blocked = False
        self._task: Task | None = None
        self._since_opened = 0
        self.ready = False
        """Associated once, or failed to: the clock may start."""
        self.finished = False
        self._intended: float | None = None
        self._begun = 0.0

    # ---------------------------------------------------------------- opening and closing

    def open(self) -> None:
        """Connect and send the A-ASSOCIATE-RQ. A refusal is counted and tried again later."""
        address = self._engine.address
        try:
            connection = socket.create_connection((address.host, address.port), 10)
        except OSError as error:
            self._failed(f"no connection: {error.strerror or error}")
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0 if self._nagle else 1)
        connection.setblocking(False)
        self._socket = connection
        self._conversation = Conversation(self._source.contexts, calling=address.calling, called=address.called)
        self._since_opened = 0
        self._engine.register(connection, self)
        self._send([self._conversation.hello])

    @property
    def connected(self) -> bool:
        """Whether it has a connection, open or opening."""
        return self._socket is not None

    def _close(self) -> None:
        if self._socket is not None:
            self._engine.forget(self._socket)
            self._socket.close()
            self._socket = None
        self._conversation = None
        self._out.clear()
        self._blocked = False

    def _failed(self, reason: str) -> None:
        """The association is gone unexpectedly: the operation under way counts as a fault, a new one follows later."""
        self._close()
        self.ready = True
        if self._task is not None:
            self._task = None
            self._intended = None
        self._tally.faults[reason] += 1
        self._engine.at(time.monotonic() + _RECONNECT, self._reopen)

    def _reopen(self) -> None:
        if not self.finished:
            self.open()

    def stop(self) -> None:
        """Time is up: count what is under way and what was due, and hang up."""
        now = time.monotonic()
        clock = self._engine.clock
        if self._task is not None and self._intended is not None and self._intended >= clock.warm:
            self._tally.overdue(now - self._intended, begun=True)
        elif self._intended is not None and self._times is not None and clock.warm <= self._intended < clock.end:
            self._tally.overdue(now - self._intended, begun=False)
        if self._times is not None and self._left and not self.finished:
            for moment in self._times:
                intended = clock.start + moment
                if intended >= clock.end:
                    break
                if intended >= clock.warm:
                    self._tally.overdue(now - intended, begun=False)
        self._task = None
        self._intended = None
        self.finished = True
        self._close()

    # ---------------------------------------------------------------- the next operation

    def plan(self) -> None:
        """Decide when the next operation begins; begin it when that is now."""
        if not self._left:
            self._finish()
            return
        clock = self._engine.clock
        if self._times is not None:
            self._intended = clock.start + next(self._times)
        else:
            self._intended = max(time.monotonic() + self._think, clock.start)
        if self._intended >= clock.end:
            self._finish()
        elif self._intended <= time.monotonic():
            self._begin()
        else:
            self._engine.at(self._intended, self._begin)

    def _begin(self) -> None:
        conversation = self._conversation
        if conversation is None or conversation.state != "open" or self._intended is None or self.finished:
            return  # it begins once the association is open again
        if self._task is not None:
            return
        if self._per_association and self._since_opened >= self._per_association:
            self._send([conversation.release()])
            return
        try:
            task = self._source.next(conversation)
        except StopIteration:
            self._finish()
            return
        except RequestError as error:
            self._tally.faults[str(error)] += 1
            self._finish()
            return
        if task is None:
            # What cannot be asked yet isn't late: its time starts when it can be.
            if time.monotonic() + _NOTHING_YET >= self._engine.clock.end:
                self._finish()
                return
            self._intended = max(self._intended, time.monotonic() + _NOTHING_YET)
            self._engine.at(self._intended, self._begin)
            return
        self._task = task
        self._since_opened += 1
        self._left -= self._left > 0
        self._begun = time.monotonic()
        self._send(task.request)

    def _finish(self) -> None:
        self._intended = None
        self.finished = True
        if self._conversation is not None and self._conversation.state == "open":
            self._send([self._conversation.release()])

    # ---------------------------------------------------------------- bytes

    def _send(self, buffers: list[Buffer]) -> None:
        connection = self._socket
        if self._nagle or self._out or self._blocked or connection is None or len(buffers) > _BUFFERS:
            self._out.extend(buffers)
            if not self._blocked:
                self.writable()
            return
        # Nothing waits: nearly always the kernel takes all of it at once.
        try:
            sent = connection.sendmsg(buffers)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._failed(f"connection lost: {error.strerror or error}")
            return
        if sent < sum(map(len, buffers)):
            self._out.extend(buffers)
            self._taken(sent)
            self._wait()

    def writable(self) -> None:
        """Hand on what waits, as far as the kernel takes it."""
        if self._socket is None:
            return
        try:
            while self._out:
                # With Nagle on, PDUs leave in pieces as toolkits write them; otherwise as much as there is at once.
                batch = [self._out[0]] if self._nagle else [self._out[n] for n in range(min(len(self._out), _BUFFERS))]
                self._taken(self._socket.sendmsg(batch))
        except BlockingIOError:
            self._wait()
            return
        except OSError as error:
            self._failed(f"connection lost: {error.strerror or error}")
            return
        if self._blocked:
            self._blocked = False
            self._engine.watch(self._socket, writing=False)

    def _taken(self, size: int) -> None:
        """The kernel took so many bytes."""
        while size:
            first = self._out[0]
            if size < len(first):
                self._out[0] = memoryview(first)[size:]
                return
            size -= len(first)
            self._out.popleft()

    def _wait(self) -> None:
        """For the kernel to take more."""
        if not self._blocked and self._socket is not None:
            self._blocked = True
            self._engine.watch(self._socket, writing=True)

    def readable(self, buffer: memoryview) -> None:
        """Take what arrived."""
        if self._socket is None or self._conversation is None:
            return
        try:
            size = self._socket.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(f"connection lost: {error.strerror or error}")
            return
        now = time.monotonic()
        if not size:
            self._gone()
            return
        try:
            events = self._conversation.receive(buffer[:size])
        except RequestError as error:
            self._failed(str(error))
            return
        for event in events:
            match event:
                case Answered():
                    self._answered(event, now)
                case Delivered():
                    self._send(event.reply)
                    self._answered(event, now)
                case Accepted():
                    self._opened()
                case Ended():
                    self._gone(event.reason)

    def _gone(self, reason: str = "") -> None:
        released = self._conversation is not None and self._conversation.state in {"releasing", "closed"}
        if reason or not released:
            self._failed(reason or "connection closed by the archive")
            return
        self._close()
        if not self.finished:
            self.open()

    def _opened(self) -> None:
        if self.ready and self._intended is None:
            self.plan()
        elif self.ready and self._intended is not None and self._intended <= time.monotonic():
            self._begin()
        self.ready = True

    def _answered(self, event: Answered | Delivered, now: float) -> None:
        if self._task is None or self._intended is None:
            self._failed("an answer to nothing")
            return
        verdict: Verdict | None = self._task.take(event)
        if verdict is None:
            return
        clock = self._engine.clock
        counts = clock.warm <= self._intended and now <= clock.limit
        self._tally.ended(
            verdict, self._intended - clock.start, self._begun - clock.start, now - clock.start, counts=counts
        )
        self._task = None
        self._intended = None
        self.plan()
