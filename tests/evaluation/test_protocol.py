from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from maesil.ct.window import Window
from maesil.errors import ConfigError
from maesil.evaluation.protocol import PROTOCOLS, Protocol
from maesil.masking import DualMasking
from maesil.masking.shared_plane import SharedPlaneMasking

ALL_PLANES = ("axial", "coronal", "sagittal")
CHANGES: list[dict[str, Any]] = [
    {"regions": ("masked",)},
    {"window": Window(-500.0, 500.0)},
    {"clip": False},
    {"ssim": "2d"},
    {"lpips": None},
    {"lpips": "squeeze"},
    {"lpips_views": ("axial", "coronal")},
    {"lpips_views": ALL_PLANES},
    {"lpips_every": 3},
    {"paste": False},
    {"mask_seed": 1},
    {"mask_draws": 3},
    {"whole_scan": True},
    {"masks": "shared_plane"},
    {"scored_window": Window(-175.0, 250.0)},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_describe__and_id_change_with_every_setting_that_matters(change: dict[str, Any]) -> None:
    base, changed = Protocol(), replace(Protocol(), **change)
    assert changed.id != base.id
    assert changed.describe().split("[protocol")[0] != base.describe().split("[protocol")[0]


def test_id__of_protocols_that_existed_before_a_setting_did_is_unchanged() -> None:
    assert Protocol().id == "4c6f15cf"


def test_id__does_not_depend_on_the_batch() -> None:
    assert replace(Protocol(), batch=64).id == Protocol().id


def test_describe__names_window_regions_and_id() -> None:
    text = Protocol().describe()
    for words in ("[-1000, 1000]", "whole =", "masked =", "predicted =", "SSIM 3D", "AlexNet", Protocol().id):
        assert words in text
    assert "\n" not in text


def test_describe__names_the_planes_of_lpips() -> None:
    assert "every axial slice" in Protocol().describe()
    assert "every axial + coronal + sagittal slice" in Protocol(lpips_views=ALL_PLANES).describe()


def test_protocol__survives_a_round_trip_through_plain_values() -> None:
    adapter = TypeAdapter(Protocol)
    protocol = Protocol(regions=("masked",), window=Window(-160.0, 240.0), lpips=None)
    assert adapter.validate_python(adapter.dump_python(protocol, mode="json")) == protocol


def test_protocol__is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Protocol().mask_seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("field", ["regions", "lpips_views"])
@pytest.mark.parametrize("twice", [False, True])
def test_protocol__refuses_no_region_and_a_region_twice(field: str, twice: bool) -> None:
    value = getattr(Protocol(), field)[:1] * 2 if twice else ()
    with pytest.raises(ConfigError, match=field):
        replace(Protocol(), **{field: value})


def test_unmasked__is_the_siblings_reading() -> None:
    protocol = PROTOCOLS["unmasked"]()
    assert (protocol.regions, protocol.masking, protocol.scored_window) == (
        ("predicted",),
        "off",
        Window(-175.0, 250.0),
    )
    assert "masking off" in protocol.describe()
    assert protocol.id != Protocol(regions=("predicted",)).id


@pytest.mark.parametrize("change", [{"regions": ("masked",)}, {"mask_draws": 8}], ids=str)
def test_protocol__without_masking_has_nothing_masked_and_nothing_to_draw(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="masking off"):
        replace(PROTOCOLS["unmasked"](), **change)


def test_protocol__refuses_masks_that_nobody_draws() -> None:
    with pytest.raises(ConfigError, match="unknown masking 'shared'"):
        Protocol(masks="shared")


def test_of_run__takes_its_window_and_refuses_another() -> None:
    window = Window(-175.0, 250.0)
    assert Protocol().of_run(window).window == Protocol(window=window).of_run(window).window == window
    with pytest.raises(ConfigError, match=r"the window \[-200, 1000\] was given, and the run's network sees"):
        Protocol(window=Window(-200.0, 1000.0)).of_run(window)


def test_folder_ending__is_another_for_every_kind_of_masks() -> None:
    kinds = [
        Protocol(),
        Protocol(masks="uniform"),
        Protocol(masks="shared_plane"),
        Protocol(whole_scan=True),
        Protocol(masks="uniform", whole_scan=True),
        PROTOCOLS["unmasked"](),
    ]
    endings = [each.folder_ending for each in kinds]
    assert endings[0] == ""
    assert len(set(endings)) == len(endings)


def test_masking_of__is_the_runs_own_or_the_named_one() -> None:
    run = DualMasking(plane_ratio=0.75)
    assert Protocol().masking_of(run) is run
    assert Protocol(masks="shared_plane").masking_of(run) == SharedPlaneMasking()


def test_named_protocols__differ_and_describe_themselves() -> None:
    named = [make() for make in PROTOCOLS.values()]
    assert len({protocol.id for protocol in named}) == len(named)
    assert all(protocol.describe().endswith(f"[protocol {protocol.id}]") for protocol in named)
