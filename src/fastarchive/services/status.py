"""The statuses the services answer with, by their names in PS3.4 and PS3.7 Annex C."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0x0000

# PS3.7 Annex C, for every service.
PROCESSING_FAILURE: Final = 0x0110
INVALID_SOP_INSTANCE: Final = 0x0117
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NOT_AUTHORISED: Final = 0x0124
UNRECOGNIZED_OPERATION: Final = 0x0211

# C-STORE, PS3.4 Table B.2-1.
OUT_OF_RESOURCES: Final = 0xA700
DATA_SET_DOES_NOT_MATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
COERCION: Final = 0xB000

# C-FIND, PS3.4 Table C.4-1.
PENDING: Final = 0xFF00
CANCELLED: Final = 0xFE00
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
UNABLE_TO_PROCESS: Final = 0xC001

# C-MOVE and C-GET, PS3.4 Tables C.4-2 and C.4-3.
UNABLE_TO_COUNT_MATCHES: Final = 0xA701
UNABLE_TO_PERFORM_SUBOPERATIONS: Final = 0xA702
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
SUBOPERATIONS_COMPLETE_WITH_FAILURES: Final = 0xB000


def is_warning(status: int) -> bool:
    """Whether a C-STORE status says "stored, but": 0001H, 0107H, 0116H or BxxxH (PS3.7 Annex C, PS3.4 B.2.3)."""
    return status in {0x0001, 0x0107, 0x0116} or 0xB000 <= status <= 0xBFFF
