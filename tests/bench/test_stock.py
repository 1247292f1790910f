"""Instances without end: each readable, each different."""

from __future__ import annotations

import io
from itertools import islice

import pydicom
import pytest

from bench.encoding import file_meta
from bench.modality import Modality, Scanner
from bench.stock import Prepared, Stock


def read(prepared: Prepared) -> pydicom.Dataset:
    meta = file_meta(prepared.sop_class, prepared.sop_instance, prepared.transfer_syntax)
    return pydicom.dcmread(io.BytesIO(meta + prepared.data_set))


@pytest.mark.parametrize("modality", list(Modality))
def test_instances_from_stock_are_what_pydicom_reads(modality: Modality) -> None:
    stock = Stock(Scanner(2, small=True), [modality], per_series=3, pool=4)
    for prepared in islice(stock.stream(), 9):
        data_set = read(prepared)
        assert data_set.SOPInstanceUID == prepared.sop_instance
        assert data_set.SeriesInstanceUID == prepared.series
        assert data_set.StudyInstanceUID == prepared.study
        assert data_set.PatientID == prepared.patient_id
        assert data_set.SOPClassUID == prepared.sop_class
        assert data_set.pixel_array.std() > 1
        assert prepared.size == len(prepared.data_set)
        assert [element.tag for element in data_set] == sorted(element.tag for element in data_set)


def test_no_two_instances_have_the_same_pixels_or_uids() -> None:
    stock = Stock(Scanner(2, small=True), per_series=50, pool=3)
    lanes = [list(islice(stock.stream(lane, 3), 300)) for lane in range(3)]
    everything = [prepared for lane in lanes for prepared in lane]
    assert len({prepared.sop_instance for prepared in everything}) == 900
    assert len({prepared.data_set[-7200:] for prepared in everything}) == 900
    patients = [{prepared.patient_id for prepared in lane} for lane in lanes]
    assert not patients[0] & patients[1]
    assert not patients[1] & patients[2]


def test_the_last_instance_of_a_series_is_marked() -> None:
    stock = Stock(Scanner(2, small=True), per_series=4, series_per_study=2, pool=2)
    made = list(islice(stock.stream(), 16))
    assert [prepared.last for prepared in made] == [False, False, False, True] * 4
    assert len({prepared.series for prepared in made}) == 4
    assert len({prepared.study for prepared in made}) == 2


def test_modalities_take_turns_from_patient_to_patient() -> None:
    stock = Stock(Scanner(2, small=True), [Modality.CT, Modality.MR], per_series=1, series_per_study=1, pool=2)
    assert [read(prepared).Modality for prepared in islice(stock.stream(), 4)] == ["CT", "MR", "CT", "MR"]
    assert len(stock.sop_classes) == 2
