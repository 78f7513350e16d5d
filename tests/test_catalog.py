from __future__ import annotations

import pickle

import pytest

from maesil.catalog import Catalog
from maesil.errors import ConfigError, MaesilError, ScanError, StoreError


def test_catalog__names_the_nearest_for_an_unknown_name() -> None:
    catalog = Catalog("masking", {"dual": 1, "uniform": 2})
    assert catalog["dual"] == 1
    with pytest.raises(ConfigError, match="unknown masking 'duall'") as caught:
        catalog["duall"]
    assert "did you mean 'dual'?" in str(caught.value)
    assert "known: dual, uniform" in str(caught.value)


def test_error__says_what_where_and_what_to_do() -> None:
    error = ScanError("a slice is missing", where="case7", fix="export the series again")
    assert str(error).splitlines() == [
        "a slice is missing",
        "  where: case7",
        "  fix:   export the series again",
    ]


@pytest.mark.parametrize("kind", [MaesilError, ScanError, StoreError])
def test_error__crosses_process_borders(kind: type[MaesilError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", where="here", fix="so")))
    assert type(error) is kind
    assert (error.what, error.where, error.fix) == ("what", "here", "so")
