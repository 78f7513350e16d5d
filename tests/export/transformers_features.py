"""Run by a test in a process of its own: features of an exported folder by `transformers` alone, offline."""

from __future__ import annotations

import os
import sys
from pathlib import Path

folder = Path(sys.argv[1])
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "home"), "TRANSFORMERS_VERBOSITY": "error"}

import numpy as np  # noqa: E402 (the environment comes first)
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

# transformers imports torchvision if there is one, whose kernels are for operators that a CPU build does not know.
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from transformers import AutoImageProcessor, AutoModel  # noqa: E402

model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
assert "maesil" not in sys.modules
hu = load_file(folder / "hu.safetensors")["hu"]
with torch.no_grad():
    ready = processor(list(hu.numpy()), return_tensors="pt")
    found = model(**ready)
    larger = model(torch.rand(1, 1, *(2 * size for size in hu.shape[1:])))
    resampled = processor(np.zeros((5, 7, 9)), spacing_mm=(4.0, 2.0, 1.0))
assert resampled["pixel_values"].shape == (1, 1, 16, 8, 8), resampled["pixel_values"].shape
assert larger.last_hidden_state.shape[1] == 8 * found.last_hidden_state.shape[1]
torch.testing.assert_close(found.pooler_output, found.last_hidden_state.mean(dim=1))
save_file({"tokens": found.last_hidden_state.contiguous()}, folder / "tokens.safetensors")
