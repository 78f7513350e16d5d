"""The paper's results (arXiv:2604.00514, Tables II and III): quoted next to ours, never mixed with them."""

from __future__ import annotations

TABLE_2 = {
    "ae": {"psnr": 25.23, "ssim": 0.97, "lpips": 0.39},
    "vae": {"psnr": 11.91, "ssim": 0.25, "lpips": 0.91},
    "vqvae": {"psnr": 20.04, "ssim": 0.88, "lpips": 0.49},
    "maesil": {"psnr": 30.28, "ssim": 0.98, "lpips": 0.26},
}
"""Kind of model to metric to value; the paper does not say which voxels were scored."""

TABLE_3 = {"btcv": 32.09, "lidc-idri": 22.58, "totalsegmentator": 18.72}
"""PSNR of MAESIL by dataset."""

PAPER_NOTE = (
    "Paper: as printed in arXiv:2604.00514, on other data, with autoencoders that see everything; its bottlenecks, "
    "scored voxels and aggregation are not reported, and no mean of its Table III (32.09, 22.58, 18.72 dB) equals its "
    "Table II (30.28 dB)."
)
