"""Scenarios: what is done to an archive, read from a TOML file and checked before anything starts.

`bench/scenarios/` has examples; README.md explains every key. A wrong file is refused with the place and the reason.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.arrival import Arrival, Pace
from bench.modality import Modality

EXAMPLES = Path(__file__).parent / "scenarios"


class ScenarioError(RuntimeError):
    """A scenario file that cannot be read; the message has one line for each mistake."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Work(_Table):
    """What all kinds of work have in common."""

    name: str = ""
    """What the report calls it; the kind by default."""
    associations: Annotated[int, Field(ge=1, le=10_000)] = 1
    arrival: Arrival = Arrival.CLOSED
    rate: Annotated[float, Field(gt=0)] | None = None
    """Operations a second of all its associations together; for open loops."""
    think: Annotated[float, Field(ge=0)] = 0.0
    """Seconds from an answer to the next request, in a closed loop."""
    per_association: Annotated[int, Field(ge=0)] = 0
    """Operations after which the association is released and a new one opened; 0: it stays open."""

    @model_validator(mode="after")
    def _a_loop_is_open_or_closed(self) -> Self:
        if self.arrival is Arrival.CLOSED and self.rate is not None:
            raise ValueError(
                f"rate says when to begin, a closed loop doesn't: set arrival to {_OPEN}, or leave rate out"
            )
        if self.arrival is not Arrival.CLOSED and self.rate is None:
            raise ValueError(f'arrival = "{self.arrival}" needs a rate')
        if self.arrival is not Arrival.CLOSED and self.think:
            raise ValueError("think is for closed loops; an open loop has its rate")
        return self

    @property
    def open(self) -> bool:
        """Whether its operations arrive at times of their own."""
        return self.arrival is not Arrival.CLOSED


_OPEN = ", ".join(f'"{arrival}"' for arrival in Arrival if arrival is not Arrival.CLOSED)


class StoreWork(_Work):
    """C-STORE of new instances."""

    kind: Literal["store"]
    modalities: Annotated[list[Modality], Field(min_length=1)] = [Modality.CT]
    """Take turns from patient to patient."""
    small: bool = False
    """Instances of 10 KB."""
    replay: Path | None = None
    """A folder of DICOM files to send over and over with fresh UIDs, instead of synthetic ones."""
    per_series: Annotated[int, Field(ge=1)] = 100
    series_per_study: Annotated[int, Field(ge=1)] = 2
    instances: Annotated[int, Field(ge=0)] = 0
    """Stop after so many; 0: when the time is over."""
    nagle: bool = False
    """Leave Nagle's algorithm on and write PDUs in pieces, as many toolkits do."""
    burst: Annotated[int, Field(ge=1)] = 100
    """Instances back to back, with arrival = "bursts"."""
    burst_rate: Annotated[float, Field(gt=0)] = 40.0
    """Instances a second of one association within a burst."""

    def pace(self) -> Pace:
        """When its operations arrive."""
        return Pace(self.arrival, self.rate or 0.0, self.burst, self.burst_rate)

    @model_validator(mode="after")
    def _bursts_make_the_rate(self) -> Self:
        if self.arrival is Arrival.BURSTS and self.rate and self.burst_rate * self.associations <= self.rate:
            raise ValueError(
                f"{self.associations} associations at burst_rate = {self.burst_rate} never reach rate = {self.rate}"
            )
        return self


Sort = Literal["study", "patient", "name", "date", "series", "images"]


class FindWork(_Work):
    """C-FIND about what this run has stored; answers are checked where only one is right."""

    kind: Literal["find"]
    questions: Annotated[list[Sort], Field(min_length=1)] = ["study", "patient", "series", "images"]

    def pace(self) -> Pace:
        """When its operations arrive."""
        return Pace(self.arrival, self.rate or 0.0)


class RetrieveWork(_Work):
    """C-GET or C-MOVE of series this run has stored in full; one operation is one series."""

    kind: Literal["get", "move"]

    def pace(self) -> Pace:
        """When its operations arrive."""
        return Pace(self.arrival, self.rate or 0.0)


Work = Annotated[StoreWork | FindWork | RetrieveWork, Field(discriminator="kind")]


class Fixed(_Table):
    """The work as it is, for `duration` seconds."""

    kind: Literal["fixed"] = "fixed"


class Step(_Table):
    """Rates rise until the objective breaks; the report names the highest rate that kept it."""

    kind: Literal["step"]
    seconds: Annotated[float, Field(gt=0)] = 20.0
    """Of each step."""
    factor: Annotated[float, Field(gt=1)] = 1.25
    """From one step to the next."""
    steps: Annotated[int, Field(ge=1)] = 20
    """At most."""
    percentile: Annotated[float, Field(gt=0, lt=1)] = 0.99
    objective_ms: Annotated[float, Field(gt=0)] = 100.0
    """What this percentile of the latency of C-STORE may be."""


class Share(_Table):
    """The ceiling first, in a closed loop; then an open loop at shares of it."""

    kind: Literal["share"]
    ceiling_seconds: Annotated[float, Field(gt=0)] = 20.0
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=2)]], Field(min_length=1)] = [0.7]


class Soak(_Table):
    """The work as it is, for long; fails when something grows that shouldn't. Limits are growth an hour."""

    kind: Literal["soak"]
    interval: Annotated[float, Field(gt=0)] = 5.0
    """Seconds from sample to sample."""
    memory_mb: Annotated[float, Field(ge=0)] = 64.0
    """Memory of its own (anonymous), of all processes; pages of files come and go with the data."""
    descriptors: Annotated[float, Field(ge=0)] = 20.0
    threads: Annotated[float, Field(ge=0)] = 20.0
    segments: Annotated[float, Field(ge=0)] = 20.0
    """Index segments, of archives that have some."""
    latency: Annotated[float, Field(ge=0)] = 1.0
    """Growth of the median and of the 99th percentile of each store and find item, as a share of its usual value."""


Mode = Annotated[Fixed | Step | Share | Soak, Field(discriminator="kind")]


class Scenario(_Table):
    """A whole file."""

    title: str
    seed: Annotated[int, Field(ge=0, le=999_999)] | None = None
    """Of the synthetic data. Without one every run makes other patients: a server that is kept gets new ones."""
    duration: Annotated[float, Field(gt=0)] = 30.0
    """Seconds, warm-up included."""
    warm_up: Annotated[float, Field(ge=0)] = 3.0
    """Seconds at the start that count in no figure."""
    prefill: Annotated[int, Field(ge=0)] = 0
    """Instances stored before the clock starts, of the first store work's kind."""
    mode: Mode = Fixed()
    work: Annotated[list[Work], Field(min_length=1)]

    @model_validator(mode="after")
    def _phases_make_sense(self) -> Self:
        stores = [work for work in self.work if isinstance(work, StoreWork)]
        if self.warm_up >= self.duration:
            raise ValueError(f"warm_up = {self.warm_up} leaves nothing of duration = {self.duration}")
        if isinstance(self.mode, Step) and not any(work.open for work in stores):
            raise ValueError('mode "step" raises rates: one store work needs an open arrival and a rate to begin with')
        if isinstance(self.mode, Share) and not any(work.open for work in stores):
            raise ValueError('mode "share" sets rates: one store work needs an open arrival (its rate only weighs it)')
        if self.prefill and not stores:
            raise ValueError("prefill stores instances of the first store work, and there is none")
        if not stores:
            raise ValueError("find, get and move ask for what this run stored: a store work is needed too")
        return self

    def scaled(self, factor: float) -> Scenario:
        """With the rates of all open store works multiplied."""
        return self._with_work(
            work.model_copy(update={"rate": work.rate * factor}) if work.kind == "store" and work.rate else work
            for work in self.work
        )

    def closed(self) -> Scenario:
        """With all store works in a closed loop without think time: what finds the ceiling."""
        return self._with_work(
            work.model_copy(update={"arrival": Arrival.CLOSED, "rate": None, "think": 0.0})
            if work.kind == "store"
            else work
            for work in self.work
        )

    def _with_work(self, work: Any) -> Scenario:
        return self.model_copy(update={"work": list(work)})

    @property
    def store_rate(self) -> float:
        """Instances a second that all open store works offer together."""
        return sum(work.rate or 0.0 for work in self.work if work.kind == "store")


def load(name: str, settings: list[str] | None = None) -> Scenario:
    """A scenario by the path of its file, or by the name of one of the examples.

    settings: `KEY=VALUE` with a dotted key (`duration=10`, `work.0.rate=200`) that replaces what the file says; the
    value is written as in TOML, text also without quotes. Raises ScenarioError.
    """
    path = Path(name)
    if not path.is_file():
        path = EXAMPLES / f"{name}.toml"
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError:
        there = ", ".join(sorted(example.stem for example in EXAMPLES.glob("*.toml")))
        raise ScenarioError(f"{name} is neither a file nor one of {there}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    for setting in settings or []:
        _replace(document, setting)
    return parse(document, str(path))


def parse(document: dict[str, Any], source: str) -> Scenario:
    """A scenario out of a parsed TOML document. Raises ScenarioError naming `source`."""
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        lines = [f"{source}: {_place(mistake['loc'])}{_reason(mistake)}" for mistake in error.errors()]
        raise ScenarioError("\n".join(lines)) from None


def _place(location: tuple[int | str, ...]) -> str:
    # pydantic puts the kind that it chose into the path: work.0.store.rate. That isn't in the file.
    kinds = {"store", "find", "get", "move", "fixed", "step", "share", "soak"}
    parts = [str(part) for number, part in enumerate(location) if not (number and part in kinds)]
    return ".".join(parts) + ": " if parts else ""


def _reason(mistake: Any) -> str:
    match mistake["type"]:
        case "extra_forbidden":
            return "there is no such key"
        case "missing":
            return "is missing"
        case "value_error":
            return str(mistake["ctx"]["error"])
        case _:
            given = f" (given: {mistake['input']!r})" if isinstance(mistake["input"], str | int | float | bool) else ""
            message = str(mistake["msg"])
            return message[:1].lower() + message[1:] + given


def _replace(document: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ScenarioError(f"{setting!r} is not KEY=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    place: Any = document
    *path, last = key.split(".")
    try:
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    except (IndexError, ValueError, TypeError, AttributeError):
        raise ScenarioError(f"{setting!r}: the scenario has no such place") from None
