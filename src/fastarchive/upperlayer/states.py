"""The state table of the DICOM Upper Layer (PS3.8 9.2, Table 9-10), as data.

How to read it: rows are events, columns are states. A cell names the action (PS3.8 Tables 9-6 to 9-9) that the event
brings about in that state; `NEXT_STATES` says which state the action leads to. A dot means that the event cannot
happen: for what the local user asks for (1, 7, 8, 9, 11, 14, 15) it is the user's mistake.

What the actions do (tables 9-6 to 9-9), in short:

AE-1 connect               AE-2 send A-ASSOCIATE-RQ    AE-3 confirm acceptance     AE-4 confirm rejection, close
AE-5 start ARTIM           AE-6 stop ARTIM, indicate   AE-7 send A-ASSOCIATE-AC    AE-8 send A-ASSOCIATE-RJ, start ARTIM
DT-1 send P-DATA-TF        DT-2 indicate P-DATA
AR-1 send A-RELEASE-RQ     AR-2 indicate release       AR-3 confirm release, close
AR-4 send A-RELEASE-RP and start ARTIM                 AR-5 stop ARTIM             AR-6 indicate P-DATA
AR-7 send P-DATA-TF        AR-8 indicate release (collision)                       AR-9 send A-RELEASE-RP
AR-10 confirm release
AA-1 send A-ABORT, start ARTIM      AA-2 stop ARTIM, close      AA-3 indicate the peer's abort, close
AA-4 indicate the provider's abort  AA-5 stop ARTIM             AA-6 ignore
AA-7 send A-ABORT                   AA-8 send A-ABORT of the provider, indicate it, start ARTIM
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """PS3.8 Tables 9-1 to 9-5."""

    IDLE = 1
    AWAITING_ASSOCIATE_RQ = 2
    AWAITING_LOCAL_ANSWER = 3
    AWAITING_TRANSPORT = 4
    AWAITING_ASSOCIATE_AC = 5
    ESTABLISHED = 6
    AWAITING_RELEASE_RP = 7
    AWAITING_LOCAL_RELEASE = 8
    COLLISION_REQUESTOR_AWAITING_LOCAL = 9
    COLLISION_ACCEPTOR_AWAITING_RELEASE_RP = 10
    COLLISION_REQUESTOR_AWAITING_RELEASE_RP = 11
    COLLISION_ACCEPTOR_AWAITING_LOCAL = 12
    AWAITING_CLOSE = 13


class Trigger(IntEnum):
    """Events, numbered as in the table's first column."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRMED = 2
    ASSOCIATE_AC_PDU = 3
    ASSOCIATE_RJ_PDU = 4
    TRANSPORT_INDICATED = 5
    ASSOCIATE_RQ_PDU = 6
    ACCEPT = 7
    REJECT = 8
    SEND_DATA = 9
    P_DATA_PDU = 10
    RELEASE = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    RELEASE_ANSWER = 14
    ABORT = 15
    ABORT_PDU = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


_TABLE = """
State      1     2     3     4     5     6     7     8     9    10    11    12    13
Evt1    AE-1     .     .     .     .     .     .     .     .     .     .     .     .
Evt2       .     .     .  AE-2     .     .     .     .     .     .     .     .     .
Evt3       .  AA-1  AA-8     .  AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4       .  AA-1  AA-8     .  AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5    AE-5     .     .     .     .     .     .     .     .     .     .     .     .
Evt6       .  AE-6  AA-8     .  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7       .     .  AE-7     .     .     .     .     .     .     .     .     .     .
Evt8       .     .  AE-8     .     .     .     .     .     .     .     .     .     .
Evt9       .     .     .     .     .  DT-1     .  AR-7     .     .     .     .     .
Evt10      .  AA-1  AA-8     .  AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11      .     .     .     .     .  AR-1     .     .     .     .     .     .     .
Evt12      .  AA-1  AA-8     .  AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13      .  AA-1  AA-8     .  AA-8  AA-8  AR-3  AA-8  AA-8 AR-10  AR-3  AA-8  AA-6
Evt14      .     .     .     .     .     .     .  AR-4  AR-9     .     .  AR-4     .
Evt15      .     .  AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1     .
Evt16      .  AA-2  AA-3     .  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17      .  AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18      .  AA-2     .     .     .     .     .     .     .     .     .     .  AA-2
Evt19      .  AA-1  AA-8     .  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""

NEXT_STATES: dict[str, int] = {
    **{"AE-1": 4, "AE-2": 5, "AE-3": 6, "AE-4": 1, "AE-5": 2, "AE-6": 3, "AE-7": 6, "AE-8": 13},
    **{"DT-1": 6, "DT-2": 6},
    **{"AR-1": 7, "AR-2": 8, "AR-3": 1, "AR-4": 13, "AR-5": 1, "AR-6": 7, "AR-7": 8, "AR-9": 11, "AR-10": 12},
    **{"AA-1": 13, "AA-2": 1, "AA-3": 1, "AA-4": 1, "AA-5": 1, "AA-6": 13, "AA-7": 13, "AA-8": 13},
}
COLLISION_STATES = {True: State.COLLISION_REQUESTOR_AWAITING_LOCAL, False: State.COLLISION_ACCEPTOR_AWAITING_RELEASE_RP}
"""AR-8 is the one action whose next state depends on who requested the association (True: we did)."""


def _read_table(text: str) -> dict[tuple[Trigger, State], str]:
    heading, *rows = (line.split() for line in text.strip().splitlines())
    states = [State(int(number)) for number in heading[1:]]
    return {
        (Trigger(int(row[0].removeprefix("Evt"))), state): action
        for row in rows
        for state, action in zip(states, row[1:], strict=True)
        if action != "."
    }


TRANSITIONS = _read_table(_TABLE)
"""(event, state) -> action; pairs that cannot happen are absent."""
