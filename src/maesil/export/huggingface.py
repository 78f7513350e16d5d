"""Hugging Face: config.json and model.safetensors as `huggingface_hub` saves, pushes and loads them.

Pushing needs the user's own token (`hf auth login`), which is not stored here.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from maesil.encoder.card import WEIGHTS, Transfer
from maesil.files import as_umask_allows
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
        **transfer: The fields of `Transfer`, stored in config.json.
    """

    def __init__(self, **transfer: Any) -> None:
        super().__init__()
        self.transfer = Transfer(**transfer)
        backbone = self.transfer.backbone()
        self.encoder = backbone.encoder  # keeps the backbone's parameter names; the backbone itself is not a submodule
        self.__dict__["backbone"] = backbone

    def forward(self, volume: Tensor) -> Tensor:
        """Returns the last feature map, like `Backbone.forward`."""
        backbone: Backbone = self.__dict__["backbone"]
        features: Tensor = backbone(volume)
        return features


def write_huggingface(backbone: Backbone, transfer: Transfer, out: Path) -> str:
    """Writes config.json and model.safetensors; returns the usage example for the model card."""
    hub = HubBackbone(**asdict(transfer))
    hub.load_state_dict(backbone.state_dict())
    hub.save_pretrained(out, config=asdict(transfer))
    as_umask_allows(out / WEIGHTS)
    return USAGE
