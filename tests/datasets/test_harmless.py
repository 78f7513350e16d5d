from __future__ import annotations

import json
from pathlib import Path

import pytest

from maesil.datasets.harmless import harmless

SPLIT = Path(__file__).parents[2] / "results" / "split.json"


@pytest.mark.parametrize(
    "name",
    [
        "s0001", "img0001", "case_001", "case_000123", "LIDC-IDRI-0314", "BTCV", "CT-ORG", "TotalSegmentator",
        "cptac_C3N-00247", "acrin-flt_001_b", "cmb-crc_MSB-01068", "lungdx_A0001_soft", "totalseg_example", "sts_014",
        "corpus2mm", "crlm_1006", "pt_201", "openkbp_002", "FLARE22_Tr_0001", "BDMAP_00000001", "train_1_a_1",
        "volume-45", "R_004", "imagesTr", "Dataset001_Liver", "AbdomenAtlas1.0", "sub-01_ses-02_ct",
        "p07", "pat_001", "a", "1", "scan 12", "1_2_3", "train_1_a_1_2", "case_2019",
    ],
)  # fmt: skip
def test_harmless__takes_public_case_names(name: str) -> None:
    assert harmless(name)


def test_harmless__takes_the_names_of_the_results() -> None:
    groups = json.loads(SPLIT.read_text(encoding="utf-8"))["groups"]
    names = {group["dataset"] for group in groups}
    for group in groups:
        for patient, sources in group["patients"].items():
            names |= {patient, *(part for source in sources for part in Path(source).parts)}
    assert len(names) > 150
    assert [name for name in names if not harmless(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        "Wu_Li", "Kim Min-jun 1962-03-04", "김민준", "Müller", "JaneDoe", "Jane Doe", "Smith", "kim_01", "sub-kim",
        "O'Neil", "K_M_J", "pat", "17.02.1953", "17_2_1953", "20170913", "04031962", "01-02-63", "2020-1-5",
        "case_19530217", "lung_1953-2-17",
        "13-9-17", "17_2_53", "53.2.17", "2017-09", "case_09.2017", "case_01_02_1963",
        "1.2.826.0.1", "1234567", "MR12345678", "case_12345678",
        "", "__", "case" * 30, "liver\n",
    ],
)  # fmt: skip
def test_harmless__does_not_take_names_dates_and_ids(name: str) -> None:
    assert not harmless(name)
