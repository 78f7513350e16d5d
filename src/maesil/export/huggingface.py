"""Hugging Face: config.json and model.safetensors as `huggingface_hub` saves, pushes and loads them.

Pushing needs the user's own token (`hf auth login`); nothing of it is stored here.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from maesil.encoder.card import Transfer
from maesil.models.backbone import Backbone

USAGE = """
from maesil.export.huggingface import HubBackbone

encoder = HubBackbone.from_pretrained(".")           # or "organisation/name"
# encoder.push_to_hub("organisation/name")           # with your own token: hf auth login
"""


@final
class HubBackbone(nn.Module, PyTorchModelHubMixin, library_name="maesil"):
    """A `Backbone` with `from_pretrained`, `save_pretrained` and `push_to_hub`.

    Args:
        **transfer: The fields of `Transfer`, which config.json holds.
    """

    def __init__(self, **transfer: Any) -> None:
        super().__init__()
        self.transfer = Transfer(**transfer)
        backbone = self.transfer.backbone()
        self.encoder = backbone.encoder  # under the backbone's own names; the backbone itself is no submodule
        self.__dict__["backbone"] = backbone

    def forward(self, volume: Tensor) -> Tensor:
        """The last feature map, as `Backbone.forward`."""
        backbone: Backbone = self.__dict__["backbone"]
        features: Tensor = backbone(volume)
        return features


def write_huggingface(backbone: Backbone, transfer: Transfer, out: Path) -> str:
    """Writes config.json and model.safetensors; returns the card's usage."""
    hub = HubBackbone(**asdict(transfer))
    hub.load_state_dict(backbone.state_dict())
    hub.save_pretrained(out, config=asdict(transfer))
    return USAGE
