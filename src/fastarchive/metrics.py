"""Every metric of the project, in one place and under Prometheus' rules.

Durations are in seconds and sizes in bytes; counters end in ``_total``. A label never holds a patient, a UID or free
text: AE titles appear only if they are in the configured list and are called ``other`` if not, everything else is one
of the few words written below.

With ``PROMETHEUS_MULTIPROC_DIR`` in the environment before this module is imported, the values of a process live in
files of that directory and :func:`exposition` adds up all processes. Create one :class:`Metrics` for each process:
two of them would write over each other's values in those files.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from fastarchive.tallies import Counts, Durations

__all__ = ["CONTENT_TYPE", "OTHER", "Metrics", "exposition", "forget_process"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""What :func:`exposition` returns, as the value of a Content-Type header."""

OTHER: Final = "other"
"""The label value that stands for every AE title that is not in the configured list."""

_STAGE_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_QUERY_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_RETRIEVE_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

STORE_STAGES: Final = ("receive", "digest", "compress", "sync", "acknowledge")
STORE_OUTCOMES: Final = (
    "stored",
    "already-present",
    "replaced",
    "quarantined",
    "conflict",
    "refused",
    "no-space",
    "no-room",
    "stalled",
    "failed",
)
SUBOPERATION_OUTCOMES: Final = ("completed", "warning", "failed")
CLOSINGS: Final = ("released", "rejected", "aborted", "peer-aborted", "timeout", "lost", "protocol-error")
SERVICES: Final = ("C-ECHO", "C-STORE", "C-FIND", "C-MOVE", "C-GET", "read")
PROCESSES: Final = ("worker", "indexer")
REJECTIONS: Final = ("called-ae-title", "calling-ae-title", "limit", "protocol", OTHER)


class _FindTallies(NamedTuple):
    """What is noted of the C-FIND requests of one model and level."""

    first: Durations
    whole: Durations
    answers: Counts[str]


class Metrics:
    """The metrics of one process, with the children the hot paths use bound in advance.

    `ae_titles` are the AE titles that may appear as a label value: the archive's own and its configured peers'.
    `registry` is where the metrics are registered; a fresh one by default, so that tests don't share values.
    """

    def __init__(self, ae_titles: Collection[str] = (), registry: CollectorRegistry | None = None) -> None:
        self.registry: Final = CollectorRegistry() if registry is None else registry
        self._ae_titles = frozenset(ae_titles)

        self.associations_open = Gauge(
            "fastarchive_associations_open",
            "Associations open now, by the role the archive has in them.",
            ["role"],
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.accepted_open = self.associations_open.labels(role="acceptor")
        self.requested_open = self.associations_open.labels(role="requestor")
        self.associations = Counter(
            "fastarchive_associations",
            "Associations accepted, by the AE title of the caller.",
            ["calling_ae"],
            registry=self.registry,
        )
        self.associations_rejected = Counter(
            "fastarchive_associations_rejected",
            "Association requests answered with A-ASSOCIATE-RJ, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.associations_closed = Counter(
            "fastarchive_associations_closed",
            "Connections that ended, by how: released, rejected, aborted (by the archive), peer-aborted, timeout, "
            "lost, protocol-error.",
            ["outcome"],
            registry=self.registry,
        )
        self.association_bytes = Counter(
            "fastarchive_association_bytes",
            "Bytes over all DICOM connections that ended.",
            ["direction"],
            registry=self.registry,
        )

        stages = Histogram(
            "fastarchive_store_stage_seconds",
            "C-STORE by stage. receive: first to last byte of the data set. digest, compress: work on the bytes. "
            "sync: waiting for the write to be durable. acknowledge: last byte received to response sent.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=self.registry,
        )
        self.store_receive = Durations(stages.labels(stage="receive"))
        self.store_digest = Durations(stages.labels(stage="digest"))
        self.store_compress = Durations(stages.labels(stage="compress"))
        self.store_sync = Durations(stages.labels(stage="sync"))
        self.store_acknowledge = Durations(stages.labels(stage="acknowledge"))
        self.store_instances = Counter(
            "fastarchive_store_instances",
            "Instances received by C-STORE, by outcome and by the AE title of the sender.",
            ["outcome", "calling_ae"],
            registry=self.registry,
        )
        self.store_bytes = Counter(
            "fastarchive_store_received_bytes",
            "Bytes of data sets received by C-STORE.",
            registry=self.registry,
        )

        self.find_first_answer = Histogram(
            "fastarchive_find_first_answer_seconds",
            "C-FIND: request received to first answer sent (the final one if nothing matched).",
            ["model", "level"],
            buckets=_QUERY_SECONDS,
            registry=self.registry,
        )
        self.find_duration = Histogram(
            "fastarchive_find_seconds",
            "C-FIND: request received to final answer sent.",
            ["model", "level"],
            buckets=_QUERY_SECONDS,
            registry=self.registry,
        )
        self.find_answers = Counter(
            "fastarchive_find_answers",
            "Pending answers sent to C-FIND requests.",
            ["model", "level"],
            registry=self.registry,
        )
        self.find_requests = Counter(
            "fastarchive_find_requests",
            "C-FIND requests, by outcome.",
            ["outcome"],
            registry=self.registry,
        )

        self.suboperations = Counter(
            "fastarchive_retrieve_suboperations",
            "C-STORE sub-operations of C-MOVE and C-GET, by outcome.",
            ["service", "outcome"],
            registry=self.registry,
        )
        self.retrieve_bytes = Counter(
            "fastarchive_retrieve_sent_bytes",
            "Bytes of data sets sent by C-MOVE and C-GET.",
            ["service"],
            registry=self.registry,
        )
        self.retrieve_duration = Histogram(
            "fastarchive_retrieve_seconds",
            "C-MOVE and C-GET: request received to final answer sent.",
            ["service"],
            buckets=_RETRIEVE_SECONDS,
            registry=self.registry,
        )

        self.damaged_instances = Counter(
            "fastarchive_damaged_instances",
            "Stored instances whose bytes did not pass their checksum or digest when they were read.",
            registry=self.registry,
        )
        self.unexpected_errors = Counter(
            "fastarchive_unexpected_errors",
            "Errors nobody foresaw, by the service they occurred in; each has a line in the log.",
            ["service"],
            registry=self.registry,
        )
        self.index_tail_records = Gauge(
            "fastarchive_index_tail_records",
            "Durable records that are not in the index yet and are searched in memory.",
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.disk_free_bytes = Gauge(
            "fastarchive_disk_free_bytes",
            "Free space of the file system the packs are on; with a mirror, of the fuller one.",
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.arriving_bytes = Gauge(
            "fastarchive_arriving_bytes",
            "Bytes in memory of data sets on their way in.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.log_stalled_seconds = Gauge(
            "fastarchive_log_stalled_seconds",
            "How long the disk has been writing the group of instances under way; 0 when none is.",
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self.log_failing = Gauge(
            "fastarchive_log_failing",
            "1 while the last group of instances could not be written for an error of the disk, 0 otherwise.",
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self.damaged_records = Gauge(
            "fastarchive_damaged_records",
            "Records known to be damaged in every copy there is.",
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.compaction_freed_bytes = Gauge(
            "fastarchive_compaction_freed_bytes",
            "Bytes compaction has given back so far.",
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.compaction_completed = Gauge(
            "fastarchive_compaction_completed_timestamp_seconds",
            "When the last compaction came to its end; 0 if none has.",
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.disagreeing_studies = Gauge(
            "fastarchive_disagreeing_studies",
            "Studies whose instances disagree about the study or its patient; `fastarchive conflicts` lists them.",
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.process_restarts = Counter(
            "fastarchive_process_restarts",
            "Processes the supervisor had to start again, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self._bind_known_labels()

    def _bind_known_labels(self) -> None:
        """Create the children with a fixed set of label values, so that they are exposed as 0 from the start: a counter
        that appears with its first event has not increased for Prometheus, and no alert would tell of it."""
        for reason in REJECTIONS:
            self.associations_rejected.labels(reason=reason)
        for outcome in CLOSINGS:
            self.associations_closed.labels(outcome=outcome)
        for service in ("C-MOVE", "C-GET"):
            self.retrieve_duration.labels(service=service)
        for service in SERVICES:
            self.unexpected_errors.labels(service=service)
        for kind in PROCESSES:
            self.process_restarts.labels(kind=kind)
        self._suboperations = Counts(
            {
                (service, outcome): self.suboperations.labels(service=service, outcome=outcome)
                for service in ("C-MOVE", "C-GET")
                for outcome in SUBOPERATION_OUTCOMES
            }
        )
        self._sent = Counts({service: self.retrieve_bytes.labels(service=service) for service in ("C-MOVE", "C-GET")})
        outcomes = ("success", "cancelled", "refused", "failed", "aborted")
        self._requests = Counts({outcome: self.find_requests.labels(outcome=outcome) for outcome in outcomes})
        self._finds: dict[tuple[str, str], _FindTallies] = {}
        self._received = Counts({"": self.store_bytes})
        self._instances = Counts(
            {
                (outcome, title): self.store_instances.labels(outcome=outcome, calling_ae=title)
                for outcome in STORE_OUTCOMES
                for title in sorted(self._ae_titles | {OTHER})
            }
        )

    def ae_label(self, ae_title: str) -> str:
        """The label value for an AE title: itself if it is configured, :data:`OTHER` if not."""
        return ae_title if ae_title in self._ae_titles else OTHER

    def count_instance(self, outcome: str, calling_ae: str, size: int) -> None:
        """Count one data set of `size` bytes that arrived by C-STORE; `outcome` is one of :data:`STORE_OUTCOMES`."""
        self._instances.add((outcome, self.ae_label(calling_ae)))
        self._received.add("", size)

    def count_find(self, outcome: str) -> None:
        """Count one C-FIND request; `outcome`: success, cancelled, refused, failed or aborted."""
        self._requests.add(outcome)

    def time_find(self, model: str, level: str, *, first: float, whole: float, answers: int) -> None:
        """Seconds to the first answer of a C-FIND and to the final response, and how many answers there were."""
        labels = (model, level)
        tallies = self._finds.get(labels)
        if tallies is None:
            tallies = self._finds[labels] = _FindTallies(
                Durations(self.find_first_answer.labels(*labels)),
                Durations(self.find_duration.labels(*labels)),
                Counts({"": self.find_answers.labels(*labels)}),
            )
        tallies.first.observe(first)
        tallies.whole.observe(whole)
        tallies.answers.add("", answers)

    def count_suboperation(self, service: str, outcome: str) -> None:
        """Count one sub-operation of "C-MOVE" or "C-GET"; `outcome` is one of :data:`SUBOPERATION_OUTCOMES`."""
        self._suboperations.add((service, outcome))

    def count_sent(self, service: str, size: int) -> None:
        """Count the bytes of a data set sent by "C-MOVE" or "C-GET"."""
        self._sent.add(service, size)

    def flush(self) -> None:
        """Hand what was noted of operations over to Prometheus; to be called every second or so."""
        for durations in (
            self.store_receive,
            self.store_digest,
            self.store_compress,
            self.store_sync,
            self.store_acknowledge,
        ):
            durations.flush()
        self._instances.flush()
        self._received.flush()
        self._suboperations.flush()
        self._sent.flush()
        self._requests.flush()
        for tallies in list(self._finds.values()):
            tallies.first.flush()
            tallies.whole.flush()
            tallies.answers.flush()


def exposition(metrics: Metrics) -> bytes:
    """All metrics in Prometheus' text format: of all processes in multi-process mode, of this one otherwise.

    What other processes noted since their last :meth:`Metrics.flush` is not in it yet.
    """
    metrics.flush()
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(metrics.registry)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    return generate_latest(registry)


def forget_process(process_id: int) -> None:
    """Drop the gauges of a process that has ended; its counters stay. Does nothing outside multi-process mode."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(process_id)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
