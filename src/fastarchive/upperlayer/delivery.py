"""Messages that have arrived, handed to who answers them promptly, or to the service, which has to be woken."""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from fastarchive.upperlayer.deadlines import Deadlines
from fastarchive.upperlayer.machine import Machine
from fastarchive.upperlayer.messages import Inbox, Message
from fastarchive.upperlayer.outflow import Outflow
from fastarchive.upperlayer.whole import whole_store

__all__ = ["Delivery", "Prompt"]

_MOST_PROMPT: Final = 1024 * 1024
"""Bytes of a message that is offered to who answers promptly."""


class Prompt(Protocol):
    """Somebody who answers some messages without being woken."""

    def arrives(self, message: Message, size: int, /) -> None:
        """Some of the next message has come, `size` bytes and somewhat more so far. It may never come to its end."""

    def take(self, message: Message, /) -> bool:
        """Take a whole message on, if it is wanted, and call Connection.answer() some time after this returned."""


class Delivery:
    """That of one connection. One message at a time: the next one has to wait for the answer to the last."""

    def __init__(self, inbox: Inbox, machine: Machine, out: Outflow, deadlines: Deadlines) -> None:
        self.prompt: Prompt | None = None
        """Who is offered messages while the service waits."""
        self.is_answering = False
        """A message was taken on promptly and is not answered yet."""
        self._inbox = inbox
        self._machine = machine
        self._out = out
        self._deadlines = deadlines

    def takes(self, data: memoryview) -> bool:
        """Whether `data`, which was just read, is one whole message and was taken on; nothing was done if not."""
        prompt, inbox, machine = self.prompt, self._inbox, self._machine
        if (
            prompt is None
            or self.is_answering
            or not inbox.is_asleep
            or not inbox.is_empty
            or self._out.is_full
            or not machine.is_at_rest
        ):
            return False
        whole = whole_store(data, machine.contexts, machine.maximum_length)
        return whole is not None and self._offer(prompt, inbox.aside(*whole))

    def deliver(self) -> None:
        """Hand on what has arrived, or wake who waits, if there is enough to be worth it."""
        inbox, prompt = self._inbox, self.prompt
        if self.is_answering:
            return
        if prompt is not None and inbox.is_asleep and not self._out.is_full:
            message = inbox.whole(_MOST_PROMPT)
            if message is not None:
                if self._offer(prompt, message):
                    inbox.drop(message)
                    return
            elif inbox.arriving is not None:
                prompt.arrives(inbox.arriving, inbox.unconsumed)
            elif inbox.is_empty and not inbox.release_requested:
                return  # part of a command: not worth waking anybody
        inbox.wake()

    def _offer(self, prompt: Prompt, message: Message) -> bool:
        self.is_answering = True  # it may be answered before this returns
        if prompt.take(message):
            self._deadlines.set_reading("", inf)
            return True
        self.is_answering = False
        return False
