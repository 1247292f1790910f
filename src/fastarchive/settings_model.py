"""Every setting of the archive as one typed model: what it is called, what it does, what it may be, and its default.

How values come into it is said in :mod:`fastarchive.settings`; the page made from it in
:mod:`fastarchive.settings_reference`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from fastarchive.setting_values import (
    AETitle,
    AETitles,
    CharacterSets,
    ConflictPolicies,
    Peers,
    PrivateUIDs,
    QueryLimitsByTitle,
)

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Port = Annotated[int, Field(ge=0, le=65_535)]
_SECONDS = "seconds, above 0, at most 86400"
_PORT = "0 (any free port) to 65535"


def _default_workers() -> int:
    """One process for each CPU this process may use, four at most: beyond that the disk is what is waited for."""
    return max(1, min(4, len(os.sched_getaffinity(0))))


def _field(description: str, allowed: str, **options: Any) -> Any:
    """A field with its reference text: what it does, and what is allowed, in words."""
    return Field(description=description, json_schema_extra={"allowed": allowed}, **options)


class Settings(BaseModel):
    """The settings of one archive; immutable once loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    data: Path = _field(
        "Folder that holds everything: packs, index and run files. Made if it is missing.",
        "a folder this user can write to",
        default=Path("fastarchive-data"),
    )
    ae_title: AETitle = _field(
        "AE title of the archive: what it calls itself, and the Retrieve AE Title in its answers.",
        "1 to 16 ASCII characters, no backslash",
        default="FASTARCHIVE",
    )
    host: str = _field(
        "Address to listen on, for DICOM and HTTP. The default keeps the archive to this machine.",
        "an IPv4 or IPv6 address or a host name; 0.0.0.0 or :: for all interfaces",
        default="127.0.0.1",
        min_length=1,
    )
    dicom_port: Port = _field(
        "TCP port for DICOM. The one in use is written to DATA/run/dicom-port.", _PORT, default=11112
    )
    http_port: Port = _field(
        "TCP port for health, metrics and status. The one in use is written to DATA/run/http-port.",
        _PORT,
        default=8080,
    )
    workers: int = _field(
        "Worker processes, each with an event loop and threads of its own; supervisor and index writer are two more. "
        "Half of them take the associations that only store.",
        "1 to 64",
        default_factory=_default_workers,
        ge=1,
        le=64,
    )
    peers: Peers = _field(
        "C-MOVE destinations: AE title and address. The option is repeated; in the environment commas join them.",
        "AET=HOST:PORT each, port from 1 to 65535",
        default_factory=dict,
    )
    check_called_ae_title: bool = _field(
        "Reject associations that call another AE title than ours (PS3.8 9.3.4: 1/1/7).",
        "true or false",
        default=False,
    )
    allowed_calling_ae_titles: AETitles = _field(
        "AE titles that may open an association; others are rejected (PS3.8 9.3.4: 1/1/3). Empty: any.",
        "a list of AE titles",
        default=(),
    )
    accept_unknown_sop_classes: bool = _field(
        "Store instances of private SOP classes and of those younger than this version, too.",
        "true or false",
        default=True,
    )
    private_transfer_syntaxes: PrivateUIDs = _field(
        "Private transfer syntaxes to accept for storage, too. What comes in them is kept as it is and sent only to"
        " peers that take them. Their data sets have to be in Explicit VR Little Endian up to the pixels (PS3.5 A.4).",
        "a list of UIDs; none of the standard's",
        default=(),
    )
    maximum_pdu: int = _field(
        "Largest P-DATA-TF PDU a peer may send, in bytes; told to it when the association is negotiated.",
        "4096 to 16777216",
        default=131_072,
        ge=4_096,
        le=16_777_216,
    )
    maximum_associations: int = _field(
        "Associations open at once in each worker; further ones are rejected as a local limit (PS3.8 9.3.4: 2/3/2).",
        "1 to 10000",
        default=200,
        ge=1,
        le=10_000,
    )
    artim_seconds: Seconds = _field(
        "ARTIM timer (PS3.8 9.1.5): how long a new connection may stay silent, and a closing one open.",
        _SECONDS,
        default=30.0,
    )
    acse_seconds: Seconds = _field(
        "How long a peer may take to answer an association or release request.", _SECONDS, default=30.0
    )
    dimse_seconds: Seconds = _field(
        "How long a peer may pause in the middle of a message or owe a response.", _SECONDS, default=60.0
    )
    idle_seconds: Seconds = _field("How long an association may stay open with nothing to do.", _SECONDS, default=600.0)
    store_seconds: Seconds = _field(
        "How long a C-STORE may wait for the disk, or for room in memory, before it is answered A700.",
        _SECONDS,
        default=30.0,
    )
    maximum_in_flight: ByteSize = _field(
        "Memory for data sets on their way in, of all workers together. Where it is short, senders are slowed down; one"
        " that still finds no room after store_seconds is answered A700.",
        "64MiB or more, or a number with KiB, MiB, GiB or TiB",
        default=ByteSize(512 * 2**20),
        ge=64 * 2**20,
    )
    drain_seconds: Seconds = _field(
        "How long running associations may go on after SIGTERM before they are aborted.", _SECONDS, default=30.0
    )
    reserve: ByteSize = _field(
        "Free disk space that is never used: below it C-STORE is answered A700 and /readyz says so.",
        "bytes, or a number with KiB, MiB, GiB or TiB",
        default=ByteSize(256 * 2**20),
        ge=0,
    )
    seal: ByteSize = _field(
        "Size at which a pack is sealed and the next one begun.",
        "1MiB to 64GiB",
        default=ByteSize(256 * 2**20),
        ge=2**20,
        le=64 * 2**30,
    )
    mirror: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = _field(
        "Second folder, on another disk, that gets a copy of every pack. It must exist; `fastarchive verify --repair`"
        " heals one from the other.",
        "an existing folder this user can write to, not the one of `data`; empty: no mirror",
        default=None,
    )
    mirror_wait: Literal["both", "one"] = _field(
        "When an instance is acknowledged: once both copies are on stable storage (nothing is stored when one disk"
        " fails), or once the first is, and the mirror follows.",
        "both or one",
        default="both",
    )
    verify_days: float = _field(
        "All that is stored is verified once in so many days, in the background, and healed where there is a mirror.",
        "0 (never) to 3650",
        default=7.0,
        ge=0,
        le=3650,
    )
    verify_rate: ByteSize = _field(
        "Bytes a second the background verification reads at most.",
        "1MiB or more, or a number with KiB, MiB, GiB or TiB",
        default=ByteSize(20 * 2**20),
        ge=2**20,
    )
    retention: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = _field(
        "File with the retention rules (see `fastarchive retention --help`). Without one nothing is ever deleted but by"
        " hand.",
        "a TOML file; empty: none",
        default=None,
    )
    retention_hours: float = _field(
        "How often the rules are applied in the background; what they let go is deleted without asking. By default only"
        " `fastarchive retention apply` does it.",
        "hours, 0 (never) to 8760",
        default=0.0,
        ge=0,
        le=8760,
    )
    compact_days: float = _field(
        "Once in so many days the space of what was deleted is given back, in the background: packs with much dead"
        " space are rewritten and small ones joined.",
        "0 (never) to 3650",
        default=1.0,
        ge=0,
        le=3650,
    )
    compact_dead: int = _field(
        "Percent of a pack that have to be dead before it is rewritten.",
        "1 to 99",
        default=30,
        ge=1,
        le=99,
    )
    compact_rate: ByteSize = _field(
        "Bytes a second compaction reads or writes at most while the archive runs.",
        "1MiB or more, or a number with KiB, MiB, GiB or TiB",
        default=ByteSize(20 * 2**20),
        ge=2**20,
    )
    maximum_matches: int = _field(
        "Answers to one C-FIND; beyond them it ends with A700 (out of resources). 0: as many as there are.",
        "0 or more",
        default=0,
        ge=0,
    )
    maximum_find_seconds: float = _field(
        "Seconds one C-FIND may take; beyond them it ends with A700 (out of resources). 0: as many as it needs.",
        "seconds, 0 to 86400",
        default=0.0,
        ge=0,
        le=86_400,
    )
    maximum_headers: int = _field(
        "Headers of instances one C-FIND may read for attributes that are not in the index; beyond them it ends with"
        " A700 (out of resources). 0: as many as there are.",
        "0 or more",
        default=10_000,
        ge=0,
    )
    maximum_scanned: int = _field(
        "Patients, studies, series and instances one C-FIND may look at where the index does not tell which match;"
        " beyond them it ends with A700 (out of resources). 0: as many as there are.",
        "0 or more",
        default=0,
        ge=0,
    )
    maximum_queries: int = _field(
        "C-FINDs of one calling AE title at once, in each worker; further ones are answered A700 (out of resources) at"
        " once. 0: any number.",
        "0 or more",
        default=0,
        ge=0,
    )
    query_limits: QueryLimitsByTitle = _field(
        "Other limits of C-FIND for some callers, by calling AE title: `matches`, `seconds`, `headers`, `scanned` and"
        " `queries` instead of `maximum_matches`, `maximum_find_seconds` and so on. The option is repeated; in the"
        " environment commas join them.",
        "AET=NAME:NUMBER each, several joined by semicolons: VIEWER=matches:500;seconds:10; in the file a table each",
        default_factory=dict,
    )
    match_unknown: bool = _field(
        "Let keys match where an entity has no value for them (PS3.4 C.2.2.1.2), UIDs and other unique keys excepted."
        " A search by Accession Number then finds all studies without one, too.",
        "true or false",
        default=False,
    )
    match_unknown_for: AETitles = _field(
        "Calling AE titles for which match_unknown holds, while it is off for everybody else.",
        "a list of AE titles",
        default=(),
    )
    character_sets: CharacterSets = _field(
        "Character sets that the text of some senders is really in, whatever they declare, by calling AE title: for"
        " what they store from then on (found and answered so, kept as it came) and for what they ask. The option is"
        " repeated; in the environment commas join them.",
        "AET=TERM each; defined terms of Specific Character Set, several joined by a backslash",
        default_factory=dict,
    )
    conflict_policy: Literal["keep-first", "replace", "quarantine"] = _field(
        "What becomes of an instance whose SOP Instance UID is stored with another content: it is refused (A900); it"
        " takes the place of what is stored, unless that is on hold (0000); or it is kept where no query finds it until"
        " `fastarchive quarantine` is told what to do (B000). The same content is always acknowledged and stored once.",
        "keep-first, replace or quarantine",
        default="keep-first",
    )
    conflict_policies: ConflictPolicies = _field(
        "The same for some senders, by calling AE title. The option is repeated; in the environment commas join them.",
        "AET=POLICY each; keep-first, replace or quarantine",
        default_factory=dict,
    )
    other_patient_policy: Literal["accept", "quarantine"] = _field(
        "What becomes of an instance that says something else than its study about Patient ID, name, birth date or sex:"
        " it is stored and `fastarchive conflicts` lists it, while queries tell what the first instance said; or it"
        " goes into quarantine (B000).",
        "accept or quarantine",
        default="accept",
    )
    maximum_identifier: ByteSize = _field(
        "Largest identifier of a C-FIND, C-MOVE or C-GET request.",
        "1KiB to 64MiB",
        default=ByteSize(2**20),
        ge=2**10,
        le=64 * 2**20,
    )
    log_level: Literal["debug", "info", "warning", "error"] = _field(
        "What is logged: this and what is graver.", "debug, info, warning or error", default="info"
    )
    log_format: Literal["text", "json"] = _field(
        "Log lines as key=value text or as one JSON object each.", "text or json", default="text"
    )

    @field_validator("mirror")
    @classmethod
    def _mirror_is_elsewhere(cls, mirror: Path | None, others: ValidationInfo) -> Path | None:
        data = others.data.get("data")
        if mirror is not None and data is not None and mirror.resolve() == data.resolve():
            raise ValueError("the same folder as data")
        return mirror


def fields() -> Mapping[str, FieldInfo]:
    """The settings by name, in the order of the reference."""
    return Settings.model_fields


def allowed(name: str) -> str:
    """What a setting may be, in words."""
    extra = fields()[name].json_schema_extra
    return str(extra["allowed"]) if isinstance(extra, dict) else ""
