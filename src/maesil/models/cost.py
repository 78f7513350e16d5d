"""Floating-point operations of a superpatch's training step, forward and backward, from a model's configuration.

A multiplication and an addition count as two operations. Matrix products, convolutions and attention are counted;
norms, activations and the optimiser are not.
"""

from __future__ import annotations

from collections.abc import Sequence

from maesil.models import cell_fusion, fusion, voxel_fusion
from maesil.models.autoencoder import AutoencoderConfig
from maesil.models.kriging import cells_of
from maesil.models.mae import DECODERS, MAEConfig
from maesil.models.transformer import Attended
from maesil.models.unet import UNetConfig
from maesil.shapes import Shape3, product

KERNEL_VOXELS = 27
"""Weights of a 3x3x3 convolution per pair of input and output channels."""
PASSES = 3
"""Products of a layer in a training step: its output, the gradient of its input, and the gradient of its weights."""


def mae_flops(config: MAEConfig, visible: int) -> int:
    """Operations of a masked autoencoder; equal to PyTorch's count, or to within 5 percent with a fusion.

    Args:
        config: Geometry and options.
        visible: Number of tokens that the encoder sees.

    Returns:
        Operations of a step. With a fusion, the mean over the steps of a run, of which a share trains the fusion.
    """
    network = _network_flops(config, visible)
    if not config.fusion.width:
        return network
    share = config.fusion.share
    return round((1 - share) * network + share * (network / PASSES + fusion_flops(config)))


def fusion_flops(config: MAEConfig) -> int:
    """Operations of a fusion's training step, without those of the network, which then runs forward only."""
    cells, coarse = (
        _cells(config, cell) for cell in (cells_of(config.patch, fusion.FINE), fusion.coarse_cells(config.patch))
    )
    fill = (2 + 2 * fusion.FINE_STEPS) * _spectral_flops(cells) + (2 + 2 * fusion.COARSE_STEPS) * _spectral_flops(
        coarse
    )
    if config.fusion.network == "voxels":
        return fill + _enlarging_flops(cells, config.superpatch) + _voxel_network_flops(config)
    blurs = 2 * len(cell_fusion.BLURS) * _spectral_flops(cells) // 2
    enlarging = 2 * 3 * _enlarging_flops(cells, config.superpatch)
    return fill + blurs + enlarging + _small_unet_flops(config.fusion.widths, product(cells))


def _cells(config: MAEConfig, cell: Shape3) -> Shape3:
    """Number of a superpatch's cells along each axis."""
    depth, height, width = (size // edge for size, edge in zip(config.superpatch, cell, strict=True))
    return (depth, height, width)


def _spectral_flops(cells: Shape3) -> int:
    """Operations of a product with a diagonal matrix of frequencies: a transform along each axis, and back."""
    return 4 * product(cells) * sum(cells)


def _enlarging_flops(cells: Shape3, superpatch: Shape3) -> int:
    """Operations of interpolating cells to voxels, along one axis after the other, from the last."""
    (d, h, w), (depth, height, width) = cells, superpatch
    return 2 * (d * h * w * width + d * h * width * height + d * height * width * depth)


def _small_unet_flops(widths: list[int], cells: int) -> int:
    """Operations of the fusion's U-Net; its input needs no gradient."""
    total = 0
    for level, width in enumerate(widths):
        here = cells // 8**level
        entering = cell_fusion.INPUTS if level == 0 else widths[level - 1]
        passes = PASSES - 1 if level == 0 else PASSES
        merging = width * (width + widths[level + 1]) if level + 1 < len(widths) else 0
        total += 2 * cell_fusion.KERNEL**3 * here * (passes * entering * width + PASSES * (width**2 + merging))
    return total + 2 * PASSES * cells * widths[0] * cell_fusion.OUTPUTS


def _voxel_network_flops(config: MAEConfig) -> int:
    """Operations of a voxel fusion's U-Net; its input needs no gradient."""
    widths, voxels = config.fusion.widths, product(config.superpatch)
    total = _convolution_flops(voxels, _unet_products(widths, voxel_fusion.INPUTS))
    return total - _convolution_flops(voxels, voxel_fusion.INPUTS * widths[0] / 8) // PASSES


def _network_flops(config: MAEConfig, visible: int) -> int:
    """Operations of a training step of encoder and decoder."""
    grid, patch = config.grid, config.grid.voxels_per_patch
    encoder_width, decoder_width, ratio = config.encoder_width, config.decoder_width, config.mlp_ratio
    rebuilt = grid.tokens if config.visible_weight else config.rebuilt_count(visible)
    embed = 4 * visible * patch * encoder_width  # voxels need no gradient
    matrices = 3 if config.encoder_block == "eva" else 2
    seen = Attended(visible, visible, visible)
    encoder = config.encoder_depth * block_flops(seen, encoder_width, ratio, matrices)
    between = 6 * visible * encoder_width * decoder_width
    blocks = DECODERS[config.decoder].attended(config.decoder_depth, grid, visible, rebuilt)
    decoder = sum(block_flops(block, decoder_width, ratio) for block in blocks)
    head = 6 * rebuilt * decoder_width * patch
    # The visible head embeds patches again without a gradient, and passes none on.
    visible_head = 6 * visible * patch * encoder_width if config.visible_head else 0
    return embed + encoder + between + decoder + head + visible_head


def block_flops(tokens: Attended, width: int, mlp_ratio: float, mlp_matrices: int = 2) -> int:
    """Operations of a Transformer block.

    The backward pass takes two products for each matrix, and five for attention, which computes its scores again.

    Args:
        tokens: Numbers of its tokens.
        width: Number of channels of a token.
        mlp_ratio: Hidden channels of the MLP over `width`.
        mlp_matrices: Number of matrices of the MLP: two, or three where hidden channels have gates.
    """
    linear = round((4 + 2 * mlp_matrices * mlp_ratio) * width**2) * tokens.returned + 4 * width**2 * tokens.keys
    attention = 4 * tokens.returned * tokens.seen * width
    return PASSES * linear + 7 * attention // 2


def autoencoder_flops(config: AutoencoderConfig) -> int:
    """Operations of a convolutional autoencoder, to within a few percent; residual units are not counted."""
    pairs = zip((1, *config.channels), config.channels, strict=False)
    encoder = sum(first * second / 8**level for level, (first, second) in enumerate(pairs, start=1))
    return _convolution_flops(product(config.superpatch), 2 * encoder)  # the decoder costs the same


def unet_flops(config: UNetConfig) -> int:
    """Operations of a U-Net, to within 15 percent; residual units are not counted.

    A level's convolution down is computed at its own resolution, and so is its transposed convolution up, which takes
    features from below and from the skip connection.
    """
    return _convolution_flops(product(config.superpatch), _unet_products(config.channels, inputs=2))


def _unet_products(channels: Sequence[int], inputs: int) -> float:
    """Sum over a U-Net's convolutions of input times output channels, each as a share of the superpatch's voxels."""
    levels = len(channels)
    products: float = channels[-2] * channels[-1] / 8 ** (levels - 1)  # the coarsest convolution
    for level, width in enumerate(channels[:-1], start=1):
        incoming, outgoing = (inputs, *channels)[level - 1], (1, *channels)[level - 1]
        below = channels[-1] if level == levels - 1 else width
        products += (incoming * width + (width + below) * outgoing) / 8**level
    return products


def _convolution_flops(voxels: int, products: float) -> int:
    """Operations of 3x3x3 convolutions.

    Args:
        voxels: Number of voxels of the superpatch.
        products: Sum over convolutions of input times output channels, each as a share of the superpatch's voxels.
    """
    return int(2 * KERNEL_VOXELS * PASSES * voxels * products)
