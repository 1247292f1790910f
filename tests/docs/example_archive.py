"""The archive behind the examples of docs/querying.md: six invented patients, eight studies, a few bytes of pixels.

python -m tests.docs.example_archive FOLDER        write the images as DICOM files, to try the examples with
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastarchive.archive import Archive
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.dicom.data_sets import encode
from fastarchive.dicom.dictionary import tag_of, vr_of
from fastarchive.dicom.elements import Element
from fastarchive.dicom.part10 import encode_file_head
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, EXPLICIT_VR_LITTLE_ENDIAN

SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
}


class Patient(NamedTuple):
    """Whose studies they are, in the character set of the scanner."""

    patient_id: str
    name: str
    birth_date: str
    sex: str
    character_set: str


class Series(NamedTuple):
    """A series: its modality, what it is called, how many images it has."""

    modality: str
    description: str
    images: int


@dataclass(frozen=True)
class Study:
    """A study; its UID is 1.2.3.NUMBER, series and images count on below it."""

    number: int
    patient: Patient
    date: str
    time: str
    accession: str
    description: str
    series: tuple[Series, ...]


SMITH = Patient("P1001", "SMITH^JOHN", "19700412", "M", "")
SMITHERS = Patient("P1002", "SMITHERS^ANNA^MARIA", "19850930", "F", "")
MUELLER = Patient("P1003", "Müller^Jörg", "19621103", "M", "ISO_IR 100")
WANG_XIAOMING = Patient("P2001", "Wang^XiaoMing=王^小明", "19880808", "M", "GB18030")
WANG_XIAOHONG = Patient("P2002", "Wang^XiaoHong=王^小红", "19911001", "F", "ISO_IR 192")
YAMADA = Patient("P3001", "Yamada^Tarou=山田^太郎=やまだ^たろう", "19550505", "M", "\\ISO 2022 IR 87")

STUDIES = (
    Study(
        11,
        SMITH,
        "20240115",
        "093000",
        "A0011",
        "CT Chest",
        (Series("CT", "Chest 5 mm", 3), Series("CT", "Chest 1 mm", 2)),
    ),
    Study(12, SMITH, "20240320", "141500", "A0012", "MR Head", (Series("MR", "T1", 2),)),
    Study(13, SMITHERS, "20240116", "080000", "", "US Abdomen", (Series("US", "Liver", 1),)),
    Study(14, MUELLER, "20240116", "233000", "A0014", "Thorax p.a. für Röntgen", (Series("CR", "p.a.", 1),)),
    Study(
        15,
        WANG_XIAOMING,
        "20240117",
        "101500",
        "A0015",
        "全身 PET/CT",
        (Series("CT", "平扫", 2), Series("PT", "衰减校正", 2)),
    ),
    Study(16, WANG_XIAOMING, "20240620", "160000", "A0016", "胸部 CT 平扫", (Series("CT", "胸部 5 mm", 1),)),
    Study(17, WANG_XIAOHONG, "20240320", "090000", "A0017", "头颅 MR", (Series("MR", "T2", 1),)),
    Study(18, YAMADA, "20240118", "113000", "A0018", "胸部 CT", (Series("CT", "胸部", 1),)),
)


class Image(NamedTuple):
    """One instance: its UIDs and its data set in Explicit VR Little Endian."""

    sop_class: str
    sop_instance: str
    data_set: bytes

    def file(self) -> bytes:
        """The instance as a DICOM file."""
        return encode_file_head(EXPLICIT_VR_LITTLE_ENDIAN, self.sop_class, self.sop_instance) + self.data_set


def images() -> Iterator[Image]:
    """All images, in the order they are stored."""
    for study in STUDIES:
        yield from images_of(study)


def images_of(study: Study) -> Iterator[Image]:
    """The images of one study."""
    for series_number, series in enumerate(study.series, start=1):
        for number in range(1, series.images + 1):
            yield _image(study, series_number, series, number)


def _image(study: Study, series_number: int, series: Series, number: int) -> Image:
    patient = study.patient
    study_uid = f"1.2.3.{study.number}"
    sop_class, sop_instance = SOP_CLASSES[series.modality], f"{study_uid}.{series_number}.{number}"
    values = {
        "SpecificCharacterSet": patient.character_set,
        "SOPClassUID": sop_class,
        "SOPInstanceUID": sop_instance,
        "StudyDate": study.date,
        "StudyTime": study.time,
        "AccessionNumber": study.accession,
        "Modality": series.modality,
        "Manufacturer": "Example",
        "StudyDescription": study.description,
        "SeriesDescription": series.description,
        "PatientName": patient.name,
        "PatientID": patient.patient_id,
        "PatientBirthDate": patient.birth_date,
        "PatientSex": patient.sex,
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": f"{study_uid}.{series_number}",
        "StudyID": str(study.number),
        "SeriesNumber": str(series_number),
        "InstanceNumber": str(number),
        "PhotometricInterpretation": "MONOCHROME2",
    }
    character_set = CharacterSet.parse(patient.character_set.encode())
    elements = []
    for keyword, value in values.items():
        vr = vr_of(tag_of(keyword))
        encoded = character_set.encode(value, vr)
        assert encoded is not None, (keyword, value)
        elements.append(Element(tag_of(keyword), vr, encoded))
    numbers = {"SamplesPerPixel": 1, "Rows": 1, "Columns": 2, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    numbers["PixelRepresentation"] = 0
    elements += [Element(tag_of(keyword), "US", value.to_bytes(2, "little")) for keyword, value in numbers.items()]
    elements.append(Element(tag_of("PixelData"), "OB", bytes((number, series_number))))
    return Image(sop_class, sop_instance, encode(elements, EXPLICIT_LITTLE))


def write_images(folder: Path) -> list[Path]:
    """Every image as a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for image in images():
        paths.append(folder / f"{image.sop_instance}.dcm")
        paths[-1].write_bytes(image.file())
    return paths


def fill(folder: Path) -> None:
    """Make the example archive in `folder`; everything is in its index afterwards, by one commit."""
    with Archive.open(folder, commit_seconds=60) as archive:
        for image in images():
            archive.store(image.data_set, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN)


if __name__ == "__main__":
    write_images(Path(sys.argv[1]))
