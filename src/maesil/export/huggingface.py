"""Hugging Face: one folder that `transformers`, `huggingface_hub` and `maesil.load` read.

The folder has its own code for `transformers` (`trust_remote_code=True`), which needs no maesil. Pushing needs the
user's own token (`hf auth login`), which is not stored here.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, final

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from maesil.encoder.card import WEIGHTS, Transfer
from maesil.files import as_umask_allows, write_json
from maesil.models.backbone import Backbone

FILES = ("configuration_maesil.py", "modeling_maesil.py", "image_processing_maesil.py")
"""Code that `transformers` runs, without maesil."""
PROCESSOR = "image_processing_maesil.MaesilImageProcessor"
AUTO = {
    "model_type": "maesil",
    "architectures": ["MaesilModel"],
    "auto_map": {"AutoConfig": "configuration_maesil.MaesilConfig", "AutoModel": "modeling_maesil.MaesilModel"},
}
"""Entries of config.json by which `transformers` finds the code."""

USAGE = """
from maesil.export.huggingface import HubBackbone

encoder = HubBackbone.from_pretrained(".")           # or "organisation/name"
# encoder.push_to_hub("organisation/name")           # with your own token: hf auth login
# Without maesil, by transformers alone:
# model = transformers.AutoModel.from_pretrained(".", trust_remote_code=True)
# ready = transformers.AutoImageProcessor.from_pretrained(".", trust_remote_code=True)(hu, spacing_mm=(5, 0.8, 0.8))
# tokens = model(**ready).last_hidden_state
"""


@final
class HubBackbone(nn.Module, PyTorchModelHubMixin, library_name="maesil"):
    """A `Backbone` with `from_pretrained`, `save_pretrained` and `push_to_hub`.

    Args:
        **transfer: The fields of `Transfer`, stored in config.json; those of `transformers` there are ignored.
    """

    def __init__(self, **transfer: Any) -> None:
        super().__init__()
        known = {field.name for field in fields(Transfer)}
        self.transfer = Transfer(**{name: value for name, value in transfer.items() if name in known})
        backbone = self.transfer.backbone()
        self.encoder = backbone.encoder  # keeps the backbone's parameter names; the backbone itself is not a submodule
        self.__dict__["backbone"] = backbone

    def forward(self, volume: Tensor) -> Tensor:
        """Returns the last feature map, like `Backbone.forward`."""
        backbone: Backbone = self.__dict__["backbone"]
        features: Tensor = backbone(volume)
        return features


def write_huggingface(backbone: Backbone, transfer: Transfer, out: Path) -> str:
    """Writes weights, configurations and code; returns the usage example for the model card."""
    hub = HubBackbone(**asdict(transfer))
    hub.load_state_dict(backbone.state_dict())
    hub.save_pretrained(out, config={**asdict(transfer), **AUTO})
    as_umask_allows(out / WEIGHTS)
    policy = transfer.voxels.get("policy")
    processor = {
        "image_processor_type": "MaesilImageProcessor",
        "auto_map": {"AutoImageProcessor": PROCESSOR},
        "low_hu": transfer.low_hu,
        "high_hu": transfer.high_hu,
        "spacing_mm": transfer.voxels.get("spacing_mm") if policy == "spacing" else None,
        "cube": transfer.voxels.get("cube") if policy == "cube" else None,
        "patch": list(backbone.patch),
    }
    write_json(out / "preprocessor_config.json", processor)
    for file in FILES:
        shutil.copyfile(Path(__file__).parent / "huggingface_folder" / file, out / file)
    return USAGE
