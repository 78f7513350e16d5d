"""Transformer bricks: positional encodings, attention, a pre-norm block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maesil.errors import ConfigError
from maesil.models.attention import attend
from maesil.shapes import Shape3

VIT_WAVELENGTHS = (2 * math.pi, 20_000 * math.pi)
"""Shortest and longest wavelength in patches of the encodings that ViT and MAE use."""


def sincos_positions(
    shape: Shape3, width: int, wavelengths: tuple[float, float] = VIT_WAVELENGTHS
) -> Float[Tensor, "n width"]:
    """Fixed sine-cosine encodings of a 3D grid, separable per axis (§III-A, "positional encodings").

    Each axis gets an even share of the channels: sines, then cosines, of its index at geometrically spaced
    frequencies. What does not divide by three axes goes to the first axis.

    Args:
        shape: The grid (gd, gh, gw); tokens come out in its row-major order.
        width: Channels; even, at least 6.
        wavelengths: Shortest and longest, in patches. Over a grid of 8 or 16 patches most of ViT's are nearly constant;
            a range that fits the grid tells neighbours apart from the first step on.
    """
    if width < 6 or width % 2:
        raise ConfigError(f"sine-cosine positions need an even width of at least 6, not {width}")
    pairs = width // 2
    pairs_per_axis = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    coordinates = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in shape), indexing="ij")
    encoded = [
        _sincos(index.flatten(), count, wavelengths) for index, count in zip(coordinates, pairs_per_axis, strict=True)
    ]
    return torch.cat(encoded, dim=1).float()


def _sincos(index: Float[Tensor, " n"], pairs: int, wavelengths: tuple[float, float]) -> Float[Tensor, "n channels"]:
    shortest, longest = wavelengths
    wavelength = shortest * (longest / shortest) ** (torch.arange(pairs, dtype=torch.float64) / pairs)
    angle = index[:, None] * (2 * math.pi / wavelength)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Positions(nn.Module):
    """Positional encodings of a grid: fixed sine-cosine, or learned from that start.

    Args:
        shape: The grid (gd, gh, gw).
        width: Channels.
        wavelengths: Shortest and longest, in patches.
        learned: Whether they are trained.
    """

    table: Tensor

    def __init__(
        self, shape: Shape3, width: int, *, wavelengths: tuple[float, float] = VIT_WAVELENGTHS, learned: bool = False
    ) -> None:
        super().__init__()
        table = sincos_positions(shape, width, wavelengths)
        if learned:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table, persistent=False)

    def forward(self) -> Float[Tensor, "n width"]:
        """All encodings in token order."""
        return self.table


class Attention(nn.Module):
    """Multi-head self-attention, computed by `attend`.

    Args:
        width: Channels of a token.
        heads: Heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "b n width"], asking: Int[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t width"]:
        """Every token, or those that `asking` names, attends to every token of its row."""
        query, key, value = self._project(tokens) if asking is None else self._project_some(tokens, asking)
        mixed = attend(query, key, value)
        mixed_tokens: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return mixed_tokens

    def _project(self, tokens: Float[Tensor, "b n width"]) -> tuple[Tensor, ...]:
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        return tuple(qkv.permute(2, 0, 3, 1, 4))

    def _project_some(self, tokens: Float[Tensor, "b n width"], asking: Int[Tensor, "b t"]) -> tuple[Tensor, ...]:
        """Keys and values of all tokens, queries of some: two products with the parts of one matrix."""
        width = tokens.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        query = F.linear(gather_tokens(tokens, asking), weight[:width], bias[:width])
        key_value = torch.unflatten(F.linear(tokens, weight[width:], bias[width:]), -1, (2, self.heads, -1))
        return torch.unflatten(query, -1, (self.heads, -1)).transpose(1, 2), *key_value.permute(2, 0, 3, 1, 4)


class Recomputable(nn.Module):
    """A block that may keep its inputs alone and compute the rest anew in the backward pass: less memory, more work.

    Subclasses say in `compute` what the block does.
    """

    recompute = False
    compute: Callable[..., Tensor]

    def forward(self, *inputs: Tensor | None) -> Tensor:
        """As `compute`."""
        if not (self.recompute and torch.is_grad_enabled()):
            return self.compute(*inputs)
        computed: Tensor = checkpoint(self.compute, *inputs, use_reentrant=False)
        return computed


class Block(Recomputable):
    """A pre-norm Transformer block, as in ViT.

    Under autocast the branches work in low precision and are added to tokens that stay in float32, as positions and
    mask tokens begin them. Rounded to bf16 after every branch, that sum costs the preset `demo` a gradient error of
    1.8 % of its norm, not 1.35 %.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP over `width`.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = make_mlp(width, mlp_ratio)

    def compute(
        self, tokens: Float[Tensor, "b n width"], wanted: Int[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t width"]:
        """Attention and MLP, each on a residual branch.

        Args:
            tokens: All tokens; all are attended to.
            wanted: Those whose result is needed, in this order; None: all.
        """
        kept = tokens if wanted is None else gather_tokens(tokens, wanted)
        kept = kept + self.attention(self.norm1(tokens), wanted)
        mixed: Tensor = kept + self.mlp(self.norm2(kept))
        return mixed


def make_mlp(width: int, mlp_ratio: float) -> nn.Sequential:
    """A block's MLP: one hidden layer with a GELU."""
    hidden = int(width * mlp_ratio)
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class PatchDecoder(nn.Module):
    """What decoders share: latent tokens brought to their width, a mask token, blocks, and a head that makes voxels.

    Subclasses say in `forward` how the blocks go from the latent tokens to those that are wanted.

    Args:
        latent_width: e, the encoder's.
        width: k, the decoder's.
        blocks: In their order.
        positions: Encodings of the grid at `width`.
        voxels_per_patch: p.
    """

    def __init__(
        self, latent_width: int, width: int, blocks: Iterable[nn.Module], positions: Positions, voxels_per_patch: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(latent_width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.positions = positions
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, voxels_per_patch)

    def predict(self, tokens: Float[Tensor, "b t k"]) -> Float[Tensor, "b t p"]:
        """Voxels of the patches of any subset of decoded tokens, in normalised units, float32."""
        patches: Tensor = self.head(self.norm(tokens))
        return patches.float()


def recompute_blocks(network: nn.Module) -> None:
    """From now on the network's blocks keep their inputs alone."""
    for module in network.modules():
        if isinstance(module, Recomputable):
            module.recompute = True


def gather_tokens(tokens: Float[Tensor, "b n x"], index: Int[Tensor, "b t"]) -> Float[Tensor, "b t x"]:
    """The rows of `tokens` that `index` names, per batch row."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def initialize(module: nn.Module) -> None:
    """Xavier-uniform linear layers with zero biases, unit layer norms; for `module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def initialize_qkv(attention: Attention, *, shared: bool = False) -> None:
    """Treats the fused projection as the three square matrices it holds, else Xavier's range is too narrow.

    Args:
        attention: The layer.
        shared: Start with queries equal to keys, so that a token attends to those of similar position and content
            (after Trockman and Kolter 2023).
    """
    width = attention.qkv.in_features
    bound = math.sqrt(6.0 / (2 * width))
    nn.init.uniform_(attention.qkv.weight, -bound, bound)
    if shared:
        with torch.no_grad():
            share_queries(attention.qkv.weight[:width], attention.qkv.weight[width : 2 * width])


@torch.no_grad()
def share_queries(query: Float[Tensor, "width width"], key: Float[Tensor, "width width"]) -> None:
    """Makes keys equal to queries, in place, both scaled down."""
    query *= SHARED_SCALE
    key.copy_(query)


SHARED_SCALE = 0.7
"""Of shared queries and keys: their products add up, where those of independent ones cancel."""

COSINE_SCALE = 0.1
"""Of the embedding's constant term; each further frequency is raised in proportion, as CT has less of it."""


def cosine_embedding(patch: Shape3, width: int) -> Float[Tensor, "width p"]:
    """The `width` lowest frequencies of a patch's 3D cosine transform, as a linear map of its voxels.

    Channels beyond the number of frequencies (there are as many as voxels) start at zero.
    """
    bases = [_cosines(size) for size in patch]
    frequency = torch.cartesian_prod(*(torch.arange(size) for size in patch))
    radius = frequency.double().norm(dim=1)
    order = radius.argsort(stable=True)[:width]
    waves = [basis[frequency[order, axis]] for axis, basis in enumerate(bases)]
    rows = torch.einsum("ei,ej,ek->eijk", *waves).flatten(1)
    weight = torch.zeros(width, rows.shape[1])
    weight[: len(order)] = (rows * (COSINE_SCALE * (1 + radius[order]))[:, None]).float()
    return weight


def _cosines(size: int) -> Float[Tensor, "f x"]:
    """The orthonormal cosine transform of one axis."""
    place = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * (place[None] + 0.5) * place[:, None] / size) * math.sqrt(2.0 / size)
    basis[0] /= math.sqrt(2.0)
    return basis
