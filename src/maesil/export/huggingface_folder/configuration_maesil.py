"""The configuration of an exported encoder, for `transformers.AutoConfig`."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class MaesilConfig(PretrainedConfig):  # type: ignore[misc]
    """What config.json says: `model` has the sizes of the network, the rest describes its scans and its training."""

    model_type = "maesil"

    def __init__(self, model: dict[str, Any] | None = None, **named: Any) -> None:
        super().__init__(**named)
        self.model = model or {}
