from __future__ import annotations

import pytest
import torch
from torch import nn

from maesil.errors import CheckpointError
from maesil.models.transfer import transfer


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_transfer__all_of_it() -> None:
    source, target = network(), network()
    report = transfer(target, source.state_dict())
    assert report.complete
    assert report.share == 1.0
    assert report.loaded == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert torch.equal(target[0].weight, source[0].weight)
    assert str(report) == "4 of 4 tensors filled (100%)"


def test_transfer__refuses_what_would_stay_random_and_touches_nothing() -> None:
    target = network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    given = network().state_dict()
    given["0.weight"] = torch.zeros(4, 5)
    given["2.weight"] = given.pop("1.bias")
    with pytest.raises(CheckpointError) as caught:
        transfer(target, given, where="here")
    message = str(caught.value)
    assert "50% of the network" in message
    assert "0.weight is 4x5, the network wants 4x3" in message
    assert "absent from the weights: 1.bias" in message
    assert "without a place in the network: 2.weight" in message
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_transfer__in_part_when_asked() -> None:
    target, given = network(), network().state_dict()
    del given["1.bias"]
    given["head.weight"] = torch.zeros(1)
    report = transfer(target, given, partial=True)
    assert (report.random, report.dropped) == (("1.bias",), ("head.weight",))
    assert report.share == 0.75
    assert "left random: 1.bias" in str(report)
    assert torch.equal(target[0].weight, given["0.weight"])


def test_transfer__resizes_what_it_is_told_to() -> None:
    target, given = network(), network().state_dict()
    given["0.bias"] = torch.ones(8)
    report = transfer(target, given, resize={"0.bias": lambda tensor, wanted: tensor[: len(wanted)]})
    assert report.resized == ("0.bias",)
    assert report.complete
