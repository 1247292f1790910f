"""What the upper layer reports about connections, as metrics."""

from __future__ import annotations

from typing import Final

from fastarchive.metrics import CLOSINGS, OTHER, Metrics
from fastarchive.upperlayer.options import Observer

__all__ = ["MetricsObserver"]

# (source, reason) of A-ASSOCIATE-RJ, PS3.8 9.3.4.
_REJECTIONS: Final = {
    (1, 7): "called-ae-title",
    (1, 3): "calling-ae-title",
    (3, 1): "limit",
    (3, 2): "limit",
    (1, 1): "protocol",
    (1, 2): "protocol",
    (2, 1): "protocol",
    (2, 2): "protocol",
}


class MetricsObserver(Observer):
    """Counts rejections, endings and bytes of the connections of one acceptor or requestor."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._received = metrics.association_bytes.labels(direction="received")
        self._sent = metrics.association_bytes.labels(direction="sent")

    def rejected(self, title: str, result: int, source: int, reason: int) -> None:
        """Count an A-ASSOCIATE-RJ under its reason."""
        self._metrics.associations_rejected.labels(reason=_REJECTIONS.get((source, reason), OTHER)).inc()

    def closed(self, title: str, outcome: str, received: int, sent: int) -> None:
        """Count the end of a connection and what went over it."""
        self._metrics.associations_closed.labels(outcome=outcome if outcome in CLOSINGS else OTHER).inc()
        self._received.inc(received)
        self._sent.inc(sent)
