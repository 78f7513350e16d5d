"""Run by the exporters' contract in a process of its own: features of an exported folder in a Primus network."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file

# timm imports torchvision, whose module declares kernels for operators that a CPU build of torch does not know.
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.simplefilter("ignore")

from maesil.export.nnunet import primus  # noqa: E402 (the operators come first)

folder = Path(sys.argv[1])
network, report = primus(folder, classes=3)
assert report.dropped == ()
assert all(name.startswith(("up_projection.", "mask_token")) for name in report.random), report.random
volume = load_file(folder / "volume.safetensors")["volume"]
seen: list[torch.Tensor] = []
network.up_projection[1].register_forward_hook(lambda _, given, __: seen.append(given[0]))
network.train()(torch.rand(4, *volume.shape[1:]))
deviation, mean = torch.std_mean(seen[0].transpose(0, 1).flatten(1), dim=1, correction=0)
assert mean.abs().max() < 1e-3  # the decoder sees channels of one scale
assert (deviation - 1).abs().max() < 1e-2
network.up_projection[0].reset_running_stats()
with torch.no_grad():
    network.eval()
    assert network(volume).shape == (len(volume), 3, *volume.shape[2:])
    embedded = network.down_projection(volume)
    tokens, _ = network.eva(rearrange(embedded, "b e gd gh gw -> b (gd gh gw) e"))
    shape = dict(zip(("gd", "gh", "gw"), embedded.shape[2:], strict=True))
    features = rearrange(tokens, "b (gd gh gw) e -> b e gd gh gw", **shape).contiguous()
    larger = tuple(size * 2 for size in volume.shape[2:])
    resized, report = primus(folder, classes=2, input_shape=larger)
    assert report.resized == ("eva.pos_embed",)
    assert resized(torch.zeros(1, 1, *larger)).shape == (1, 2, *larger)
save_file({"features": features}, folder / "features.safetensors")
