"""What scanners write besides pixels: about 148 elements a CT slice, with sequences and private groups.

A header is a mapping of tags to encoded elements in three layers: what every image of a device has in common, what a
series has in common, and the few elements that change from image to image.
"""

from __future__ import annotations

from bench.encoding import element, sequence

Elements = dict[int, bytes]

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
CR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1"
US_MULTI_FRAME_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.3.1"

Value = str | int | float | bytes | tuple[int | float, ...]
Row = tuple[int, str, Value]

# Every device: equipment, staff, physics. Values are of the usual length, not of any real hospital.
_EQUIPMENT: tuple[Row, ...] = (
    (0x00080070, "LO", "ACME Imaging"),
    (0x00080080, "LO", "Synthetic General Hospital"),
    (0x00080081, "ST", "1 Phantom Way, Testville"),
    (0x00081010, "SH", "ROOM-7"),
    (0x00081040, "LO", "Radiology"),
    (0x00081050, "PN", "Reader^Rita"),
    (0x00081070, "PN", "Operator^Otto"),
    (0x00081090, "LO", "Phantom 64"),
    (0x00181000, "LO", "SN-0004711"),
    (0x00181020, "LO", "ap2019.1_hotfix_07"),
    (0x00181030, "LO", "6.1 Routine Chest/Abdomen"),
    (0x00081060, "PN", "Reading^Rose"),
    (0x00080090, "PN", "Referrer^Ruth"),
    (0x00081048, "PN", "Record^Rolf"),
    (0x00081080, "LO", "Follow-up"),
    (0x00080060, "CS", "OT"),
    (0x00080064, "CS", "DI"),
    (0x00080016, "UI", ""),
    (0x00102160, "SH", "Unknown"),
    (0x00102180, "SH", "Synthetic"),
    (0x001021B0, "LT", "No history: this patient was generated."),
    (0x00101000, "LO", ""),
    (0x00101010, "AS", "057Y"),
    (0x00101020, "DS", "1.74"),
    (0x00101030, "DS", "78.5"),
    (0x001021C0, "US", 4),
    (0x00104000, "LT", "synthetic"),
    (0x00321032, "PN", "Requester^Ralph"),
    (0x00321033, "LO", "Emergency"),
    (0x00321060, "LO", "CT chest and abdomen with contrast"),
    (0x00400241, "AE", "SCANNER7"),
    (0x00400242, "SH", "ROOM-7"),
    (0x00400243, "SH", "Basement"),
    (0x00400253, "SH", "PPS0001"),
    (0x00400254, "LO", "Chest and abdomen"),
    (0x00401001, "SH", "RP0001"),
    (0x00402001, "LO", "Rule out"),
)

_CT: tuple[Row, ...] = (
    (0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
    (0x00180010, "LO", "Contrast 370"),
    (0x00180015, "CS", "CHEST"),
    (0x00180022, "CS", "HELICAL MODE"),
    (0x00180050, "DS", "1.25"),
    (0x00180060, "DS", "120"),
    (0x00180088, "DS", "1.25"),
    (0x00180090, "DS", "500.000000"),
    (0x00181040, "LO", "IV"),
    (0x00181041, "DS", "80"),
    (0x00181044, "DS", "80"),
    (0x00181046, "DS", "3.5"),
    (0x00181048, "CS", "IODINE"),
    (0x00181049, "DS", "370"),
    (0x00181100, "DS", "360.000000"),
    (0x00181110, "DS", "949.075012"),
    (0x00181111, "DS", "541.000000"),
    (0x00181120, "DS", "0.000000"),
    (0x00181130, "DS", "133.500000"),
    (0x00181140, "CS", "CW"),
    (0x00181150, "IS", "500"),
    (0x00181152, "IS", "160"),
    (0x00181160, "SH", "BODY FILTER"),
    (0x00181170, "IS", "38400"),
    (0x00181190, "DS", "1.200000"),
    (0x00181210, "SH", "STANDARD"),
    (0x00181400, "LO", "BONE"),
    (0x00185100, "CS", "HFS"),
    (0x00189305, "FD", 0.5),
    (0x00189306, "FD", 0.625),
    (0x00189307, "FD", 40.0),
    (0x00189309, "FD", 79.375),
    (0x00189310, "FD", 39.375),
    (0x00189311, "FD", 0.984375),
    (0x00200037, "DS", "1.000000\\0.000000\\0.000000\\0.000000\\1.000000\\0.000000"),
    (0x00189345, "FD", 8.5),
    (0x00201002, "IS", "400"),
    (0x00201040, "LO", "SN"),
    (0x00280002, "US", 1),
    (0x00280004, "CS", "MONOCHROME2"),
    (0x00280030, "DS", "0.976562\\0.976562"),
    (0x00280100, "US", 16),
    (0x00280101, "US", 12),
    (0x00280102, "US", 11),
    (0x00280103, "US", 0),
    (0x00280106, "US", 0),
    (0x00280107, "US", 4095),
    (0x00280120, "US", 0),
    (0x00281050, "DS", "40\\-600"),
    (0x00281051, "DS", "400\\1500"),
    (0x00281052, "DS", "-1024"),
    (0x00281053, "DS", "1"),
    (0x00281054, "LO", "HU"),
    (0x00281055, "LO", "MEDIASTINUM\\LUNG"),
    # Private groups as scanners write them: a creator, then numbers and text only the maker understands.
    (0x00090010, "LO", "ACME_IDEN_01"),
    (0x00091001, "LO", "CT_PHANTOM"),
    (0x00091002, "SH", "CT01"),
    (0x00091004, "SH", "PHANTOM64"),
    (0x000910E3, "UI", "2.25.329800735698586629295641978511506172918"),
    (0x00190010, "LO", "ACME_ACQU_01"),
    (0x00191002, "SL", 912),
    (0x00191003, "DS", "373.750000"),
    (0x00191004, "DS", "1.016600"),
    (0x0019100F, "DS", "605.099976"),
    (0x00191011, "SS", 2),
    (0x00191023, "DS", "78.750000"),
    (0x00191024, "DS", "14.520000"),
    (0x00191039, "SS", 16),
    (0x00270010, "LO", "ACME_IMAG_01"),
    (0x00271020, "SS", 1),
    (0x00271035, "SS", 2),
    (0x00430010, "LO", "ACME_PARM_01"),
    (0x00431010, "US", 400),
    (0x00431012, "SS", (14, 2, 3)),
    (0x0043101E, "DS", "0.000000"),
    (0x00431028, "OB", bytes(range(8)) * 10),
    (0x00431031, "DS", "-10.500000\\24.300000"),
)

_MR: tuple[Row, ...] = (
    (0x00080008, "CS", "ORIGINAL\\PRIMARY\\M\\NORM\\DIS2D"),
    (0x00180015, "CS", "HEAD"),
    (0x00180020, "CS", "SE"),
    (0x00180021, "CS", "SK\\SP"),
    (0x00180022, "CS", "PFP"),
    (0x00180023, "CS", "2D"),
    (0x00180024, "SH", "*tse2d1_15"),
    (0x00180050, "DS", "5"),
    (0x00180080, "DS", "4500"),
    (0x00180081, "DS", "91"),
    (0x00180083, "DS", "2"),
    (0x00180084, "DS", "63.676"),
    (0x00180087, "DS", "1.5"),
    (0x00180091, "IS", "15"),
    (0x00181314, "DS", "150"),
    (0x00185100, "CS", "HFS"),
    (0x00200037, "DS", "1\\0\\0\\0\\1\\0"),
    (0x00201040, "LO", ""),
    (0x00280002, "US", 1),
    (0x00280004, "CS", "MONOCHROME2"),
    (0x00280030, "DS", "0.8984375\\0.8984375"),
    (0x00280100, "US", 16),
    (0x00280101, "US", 12),
    (0x00280102, "US", 11),
    (0x00280103, "US", 0),
    (0x00281050, "DS", "1024"),
    (0x00281051, "DS", "2048"),
    (0x00290010, "LO", "ACME CSA HEADER"),
    (0x00291008, "CS", "IMAGE NUM 4"),
    (0x00291010, "OB", b"SV10\x04\x03\x02\x01" + bytes(248)),
)

_CR: tuple[Row, ...] = (
    (0x00080008, "CS", "ORIGINAL\\PRIMARY"),
    (0x00180015, "CS", "CHEST"),
    (0x00180060, "DS", "125"),
    (0x00181164, "DS", "0.15\\0.15"),
    (0x00181260, "SH", "PLATE7"),
    (0x00185101, "CS", "PA"),
    (0x00200020, "CS", "L\\F"),
    (0x00280002, "US", 1),
    (0x00280004, "CS", "MONOCHROME2"),
    (0x00280100, "US", 16),
    (0x00280101, "US", 12),
    (0x00280102, "US", 11),
    (0x00280103, "US", 0),
    (0x00281050, "DS", "2048"),
    (0x00281051, "DS", "4096"),
)

_US: tuple[Row, ...] = (
    (0x00080008, "CS", "ORIGINAL\\PRIMARY\\ABDOMINAL\\0001"),
    (0x00180015, "CS", "ABDOMEN"),
    (0x00181063, "DS", "33.3"),
    (0x00200020, "CS", ""),
    (0x00201040, "LO", ""),
    (0x00280002, "US", 3),
    (0x00280004, "CS", "RGB"),
    (0x00280006, "US", 0),
    (0x00280009, "AT", b"\x18\x00\x63\x10"),
    (0x00280100, "US", 8),
    (0x00280101, "US", 8),
    (0x00280102, "US", 7),
    (0x00280103, "US", 0),
)


def _encoded(rows: tuple[Row, ...]) -> Elements:
    return {tag: element(tag, vr, value) for tag, vr, value in rows}


def _procedure_code() -> bytes:
    return (
        element(0x00080100, "SH", "24627-2") + element(0x00080102, "SH", "LN") + element(0x00080104, "LO", "CT Chest")
    )


def device_elements(modality: str, sop_class: str) -> Elements:
    """What every image of a device has in common; the caller lays series and image elements over it."""
    elements = _encoded(_EQUIPMENT)
    if sop_class != ENHANCED_CT_IMAGE_STORAGE:  # whose attributes stand in functional groups
        elements |= _encoded({"CT": _CT, "MR": _MR, "CR": _CR, "US": _US}[modality])
    elements[0x00080016] = element(0x00080016, "UI", sop_class)
    elements[0x00080060] = element(0x00080060, "CS", modality)
    elements[0x00081032] = sequence(0x00081032, _procedure_code())
    elements[0x00400260] = sequence(0x00400260, _procedure_code())
    elements[0x00400275] = sequence(
        0x00400275,
        element(0x00400007, "LO", "Chest and abdomen")
        + sequence(0x00400008, _procedure_code())
        + element(0x00400009, "SH", "SPS0001")
        + element(0x00401001, "SH", "RP0001"),
    )
    return elements


def monochrome_ultrasound(elements: Elements) -> Elements:
    """The same ultrasound device with its colour mode off: one sample a pixel (PS3.3 C.8.5.6)."""
    grey = elements | _encoded(((0x00280002, "US", 1), (0x00280004, "CS", "MONOCHROME2")))
    del grey[0x00280006]
    return grey
