"""Measure a PACS that runs already, by host and port, in one command.

Asks first what the PACS allows (C-ECHO, which storage SOP classes, C-FIND, C-GET, C-MOVE) and says so, leaves out of
the scenario what it does not allow, runs the rest and writes a report with tables and plots. Use a test system:
synthetic patients are stored (their IDs begin with PAT) and nothing is deleted afterwards.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import run as scenario_run
from bench.encoding import EXPLICIT_LITTLE
from bench.messages import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Context,
)
from bench.modality import SOP_CLASSES
from bench.peers import PEERS, Elsewhere, image_query
from bench.report import progress
from bench.requestor import Requestor
from bench.scenario import FindWork, RetrieveWork, Scenario, StoreWork, load

_NOBODY = "2.25.1"
"""A study nobody has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench pacs`."""
    parser.add_argument("address", metavar="AET@HOST:PORT", help="called AE title, host and port of the PACS")
    parser.add_argument("--scenario", default="hospital", help="a TOML file, or the name of an example")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a key, e.g. duration=30"
    )
    parser.add_argument("--beside", default="", metavar="PEERS", help="also start and measure: " + ", ".join(PEERS))
    parser.add_argument("--calling", default="BENCH", help="AE title that the PACS knows us by")
    parser.add_argument(
        "--sink-port",
        type=int,
        default=0,
        help=f"port at which the PACS knows {scenario_run.MoveSink.ae_title} at this machine; without it no C-MOVE",
    )
    parser.add_argument("--processes", type=int, default=1, help="sender processes")
    parser.add_argument("--report", type=Path, default=Path("report"), help="folder for tables, JSON and plots")
    parser.set_defaults(seed=None, cores="", syncs=False, check=True, workers=None)


def run(options: argparse.Namespace) -> int:
    """Ask, measure, report; 1 when something acknowledged is missing or an answer is wrong, 2 when it can't be done."""
    try:
        peer = Elsewhere(options.address)
    except ValueError as error:
        raise RuntimeError(str(error)) from None
    scenario = allowed(load(options.scenario, options.set), peer, options.calling, sink=bool(options.sink_port))
    options.peers, options.also = options.beside, [options.address]
    return scenario_run.measure_all(scenario, options)


def allowed(scenario: Scenario, peer: Elsewhere, calling: str, *, sink: bool) -> Scenario:
    """What of a scenario the PACS lets us do; says what it doesn't. Raises RuntimeError when it takes no instances.

    sink: whether the PACS knows where to move to.
    """
    stores = [work for work in scenario.work if isinstance(work, StoreWork) and not work.replay]
    kinds = list(dict.fromkeys(SOP_CLASSES[modality] for work in stores for modality in work.modalities))
    storage = [Context(uid, (EXPLICIT_LITTLE,)) for uid in kinds]
    find, get, move = Context(STUDY_ROOT_FIND), Context(STUDY_ROOT_GET), Context(STUDY_ROOT_MOVE)
    verification = Context(VERIFICATION)
    contexts = [verification, *storage, find, get, move]
    name = peer.label
    try:
        with Requestor(
            peer.host, peer.dicom_port, contexts, calling=calling, called=peer.ae_title, timeout=30
        ) as association:
            echo = association.result(verification) == 0 and association.echo().status == 0
            refused = {context.abstract_syntax for context in contexts if association.result(context)}
            found = -1
            if STUDY_ROOT_FIND not in refused:
                found = association.find(STUDY_ROOT_FIND, image_query(_NOBODY, _NOBODY)).response.status
    except OSError as error:
        raise RuntimeError(
            f"{name} can't be measured: {error}. It has to listen there under that called AE title, and to accept the "
            f"calling AE title {calling} (--calling)"
        ) from None
    can = {
        "find": found == 0,
        "get": STUDY_ROOT_GET not in refused,
        "move": STUDY_ROOT_MOVE not in refused and sink,
    }
    answers = {True: "yes", False: "no"}
    taken_kinds = len(kinds) - len(refused & set(kinds))
    progress(
        f"{name}: C-ECHO {answers[echo]}; {taken_kinds} of {len(kinds)} storage SOP classes; "
        f"C-FIND {answers[can['find']]}; C-GET {answers[can['get']]}; C-MOVE {answers[can['move']]}"
        + ("" if sink else " (needs --sink-port)")
    )
    work: list[StoreWork | FindWork | RetrieveWork] = []
    for one in scenario.work:
        if isinstance(one, StoreWork):
            taken = [modality for modality in one.modalities if SOP_CLASSES[modality] not in refused]
            if taken or one.replay:
                work.append(one.model_copy(update={"modalities": taken or one.modalities}))
                continue
        elif can[one.kind]:
            work.append(one)
            continue
        progress(f"{name}: left out: {one.name or one.kind}")
    if not any(isinstance(one, StoreWork) for one in work):
        raise RuntimeError(f"{name} takes none of the SOP classes that the scenario stores: {', '.join(kinds)}")
    if not can["find"]:
        progress(f"{name}: without C-FIND nobody can tell whether what was acknowledged is there")
    return scenario.model_copy(update={"work": work})
