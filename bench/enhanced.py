"""What an Enhanced CT has instead of a plain header: functional groups, shared and of each frame (PS3.3 A.38)."""

from __future__ import annotations

from bench.encoding import element, sequence

Elements = dict[int, bytes]


def _code(value: str, scheme: str, meaning: str) -> bytes:
    return element(0x00080100, "SH", value) + element(0x00080102, "SH", scheme) + element(0x00080104, "LO", meaning)


def _shared_groups(irradiation_event: str) -> bytes:
    """Attributes that all frames have in common (PS3.3 C.7.6.16.2, C.8.15.3)."""
    return b"".join(
        (
            sequence(  # CT Acquisition Type
                0x00189301,
                element(0x00189302, "CS", "SPIRAL") + element(0x00189333, "CS", "NO") + element(0x00189334, "CS", "NO"),
            ),
            sequence(  # CT Acquisition Details
                0x00189304,
                element(0x00180090, "DS", "500")
                + element(0x00181120, "DS", "0")
                + element(0x00181130, "DS", "133.5")
                + element(0x00181140, "CS", "CW")
                + element(0x00189305, "FD", 0.5)
                + element(0x00189306, "FD", 0.625)
                + element(0x00189307, "FD", 40.0)
                + element(0x00189328, "FD", 1.0),
            ),
            sequence(  # CT Table Dynamics
                0x00189308,
                element(0x00189309, "FD", 79.375)
                + element(0x00189310, "FD", 39.375)
                + element(0x00189311, "FD", 0.984375),
            ),
            sequence(  # CT Geometry
                0x00189312, element(0x00181110, "DS", "949.075") + element(0x00189335, "FD", 541.0)
            ),
            sequence(  # CT Reconstruction
                0x00189314,
                element(0x00181100, "DS", "360")
                + element(0x00181210, "SH", "STANDARD")
                + element(0x00189315, "CS", "FILTER_BACK_PROJ")
                + element(0x00189316, "CS", "STANDARD")
                + element(0x00189319, "FD", 360.0)
                + element(0x00189320, "SH", "STANDARD")
                + element(0x00189322, "FD", (0.976562, 0.976562)),
            ),
            sequence(  # CT Exposure
                0x00189321,
                element(0x00189323, "CS", "NONE")
                + element(0x00189328, "FD", 1000.0)
                + element(0x00189330, "FD", 400.0)
                + element(0x00189332, "FD", 200.0)
                + element(0x00189345, "FD", 8.5),
            ),
            sequence(  # CT X-Ray Details
                0x00189325,
                element(0x00180060, "DS", "120")
                + element(0x00181160, "SH", "BODY FILTER")
                + element(0x00181190, "DS", "1.2")
                + element(0x00187050, "CS", "ALUMINUM"),
            ),
            sequence(  # CT Image Frame Type
                0x00189329,
                element(0x00089007, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE")
                + element(0x00089205, "CS", "MONOCHROME")
                + element(0x00089206, "CS", "VOLUME")
                + element(0x00089207, "CS", "NONE"),
            ),
            sequence(0x00189477, element(0x00083010, "UI", irradiation_event)),  # Irradiation Event Identification
            sequence(  # Frame Anatomy
                0x00209071,
                sequence(0x00082218, _code("43799004", "SCT", "Thorax")) + element(0x00209072, "CS", "U"),
            ),
            sequence(  # Plane Orientation
                0x00209116, element(0x00200037, "DS", "1\\0\\0\\0\\1\\0")
            ),
            sequence(  # Pixel Measures
                0x00289110,
                element(0x00180050, "DS", "1.25")
                + element(0x00180088, "DS", "1.25")
                + element(0x00280030, "DS", "0.976562\\0.976562"),
            ),
            sequence(  # Frame VOI LUT
                0x00289132, element(0x00281050, "DS", "40") + element(0x00281051, "DS", "400")
            ),
            sequence(  # Pixel Value Transformation
                0x00289145,
                element(0x00281052, "DS", "-1024") + element(0x00281053, "DS", "1") + element(0x00281054, "LO", "HU"),
            ),
        )
    )


def _frame_groups(frame: int) -> bytes:
    """Where frame `frame` (from 0) lies and when it was made."""
    position = f"{-300 + frame * 1.25:.2f}"
    moment = f"20200101120000.{frame * 5000 % 1_000_000:06d}"
    return (
        sequence(  # CT Position
            0x00189326,
            element(0x00189313, "FD", (0.0, 0.0, -300 + frame * 1.25))
            + element(0x00189318, "FD", (0.0, 0.0, -300 + frame * 1.25))
            + element(0x00189327, "FD", -300 + frame * 1.25),
        )
        + sequence(  # Frame Content
            0x00209111,
            element(0x00189074, "DT", moment)
            + element(0x00189151, "DT", moment)
            + element(0x00189220, "FD", 500.0)
            + element(0x00209056, "SH", "1")
            + element(0x00209057, "UL", frame + 1)
            + element(0x00209156, "US", 1)
            + element(0x00209157, "UL", (1, frame + 1)),
        )
        + sequence(0x00209113, element(0x00200032, "DS", f"-250\\-250\\{position}"))  # Plane Position
    )


def enhanced_ct_elements(frames: int, dimension_uid: str) -> Elements:
    """Elements of the Enhanced CT IOD beside equipment, patient and series: {tag: encoded element}."""

    def dimension(pointer: bytes, group: bytes) -> bytes:
        return (
            element(0x00209164, "UI", dimension_uid)
            + element(0x00209165, "AT", pointer)
            + element(0x00209167, "AT", group)
        )

    return {
        tag: encoded
        for tag, encoded in (
            (0x00080008, element(0x00080008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE")),
            (0x0008002A, element(0x0008002A, "DT", "20200101120000")),
            (0x00089205, element(0x00089205, "CS", "MONOCHROME")),
            (0x00089206, element(0x00089206, "CS", "VOLUME")),
            (0x00089207, element(0x00089207, "CS", "NONE")),
            (0x00185100, element(0x00185100, "CS", "HFS")),
            (0x00189004, element(0x00189004, "CS", "PRODUCT")),
            (0x00189073, element(0x00189073, "FD", 12000.0)),
            (0x00200060, b""),
            (0x00201040, element(0x00201040, "LO", "SN")),
            (0x00200200, element(0x00200200, "UI", f"{dimension_uid[:50]}.1")),
            (0x00181800, element(0x00181800, "CS", "N")),
            (0x0018106A, element(0x0018106A, "CS", "NO TRIGGER")),
            (0x00209221, sequence(0x00209221, element(0x00209164, "UI", dimension_uid))),
            (
                0x00209222,
                sequence(
                    0x00209222,
                    dimension(b"\x20\x00\x56\x90", b"\x20\x00\x11\x91"),  # Stack ID
                    dimension(b"\x20\x00\x57\x90", b"\x20\x00\x11\x91"),  # In-Stack Position Number
                ),
            ),
            (0x00209311, element(0x00209311, "CS", "3D")),
            (0x00280002, element(0x00280002, "US", 1)),
            (0x00280004, element(0x00280004, "CS", "MONOCHROME2")),
            (0x00280100, element(0x00280100, "US", 16)),
            (0x00280101, element(0x00280101, "US", 12)),
            (0x00280102, element(0x00280102, "US", 11)),
            (0x00280103, element(0x00280103, "US", 0)),
            (0x00280301, element(0x00280301, "CS", "NO")),
            (0x00282110, element(0x00282110, "CS", "00")),
            (0x00400555, element(0x00400555, "SQ", b"")),
            (0x20500020, element(0x20500020, "CS", "IDENTITY")),
            (0x52009229, sequence(0x52009229, _shared_groups(f"{dimension_uid[:50]}.2"))),
            (0x52009230, sequence(0x52009230, *(_frame_groups(frame) for frame in range(frames)))),
        )
        if encoded
    }
