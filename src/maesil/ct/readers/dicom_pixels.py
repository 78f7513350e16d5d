"""The pixels of DICOM slices in HU: decoded, rescaled, with air outside the field of view."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.readers.dicom_headers import frames_of
from maesil.ct.readers.dicom_planes import Slice
from maesil.ct.volume import AIR_HU
from maesil.errors import MissingExtraError, ScanError
from maesil.extras import installing

HIGHEST_TISSUE_HU = 3071
"""Highest value of a scanner's usual range: padding below it could be tissue, and is judged by its place, too."""


def planes_in_hu(slices: Sequence[Slice]) -> Iterator[npt.NDArray[Any]]:
    """The pixels (rows, columns) of slices in HU, one after the other; frames of one file are decoded once.

    Raises:
        ScanError: The pixels of a file are missing or damaged, or do not have the size that its header declares.
        MissingExtraError: They are compressed, and no decoder is installed.
    """
    opened: tuple[Path, npt.NDArray[Any]] | None = None
    for one in slices:
        if opened is None or opened[0] != one.path:
            opened = (one.path, stored_frames(one.path))
        yield in_hu(frame_of(opened[1], one), one)


def frame_of(frames: npt.NDArray[Any], one: Slice) -> npt.NDArray[Any]:
    """The stored pixels of a slice in those of its file.

    Raises:
        ScanError: They do not have the size or number of frames that the header declares.
    """
    expected = (one.rows, one.columns) if one.frames == 1 else (one.frames, one.rows, one.columns)
    if frames.shape not in (expected, (one.frames, one.rows, one.columns)):
        raise ScanError(f"the image has {frames.shape} voxels, but its header declares {expected}", where=one.path)
    return frames[one.frame] if frames.ndim == 3 else frames


def in_hu(stored: npt.NDArray[Any], one: Slice) -> npt.NDArray[Any]:
    """Stored pixels in HU: rescaled by the slice's own slope and intercept, with its padding as air."""
    if one.slope.is_integer() and one.intercept.is_integer():
        hu: npt.NDArray[Any] = stored.astype(np.int32) * int(one.slope) + int(one.intercept)
    else:
        hu = stored.astype(np.float64) * one.slope + one.intercept
    outside = _outside(stored, hu, one)
    if outside is not None:
        hu[outside] = AIR_HU
    return hu


def _outside(stored: npt.NDArray[Any], hu: npt.NDArray[Any], one: Slice) -> npt.NDArray[np.bool_] | None:
    """Which pixels are padding that would be taken for tissue or metal; None if none are.

    Padding below air is kept: it is clipped later. Padding in the range of tissue counts only where it reaches the edge
    of the image, because pixels in the body may have its value, too.
    """
    if one.padding is None:
        return None
    bits = stored.astype(np.int64) & ((1 << (8 * stored.dtype.itemsize)) - 1)
    padded = (bits >= one.padding.first) & (bits <= one.padding.last) & (hu > AIR_HU)
    if not padded.any():
        return None
    if hu[padded].min() > HIGHEST_TISSUE_HU:
        return padded
    return _reaching_the_edge(padded)


def _reaching_the_edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    from scipy.ndimage import label

    regions, _ = label(mask)
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    reaching: npt.NDArray[np.bool_] = mask & np.isin(regions, np.unique(edge[edge > 0]))
    return reaching


def stored_frames(path: Path) -> npt.NDArray[Any]:
    """The stored pixels of a file: (rows, columns), or (frames, rows, columns).

    Raises:
        ScanError: They are missing, cut short or damaged.
        MissingExtraError: They are compressed, and no decoder is installed.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns about excess padding bytes and the like
            image = pydicom.dcmread(path, force=True)
            if "PixelData" not in image:
                raise ScanError("the file has no pixels", where=path, fix="export the images, not only their headers")
            image.file_meta.TransferSyntaxUID = syntax = syntax_of(image)
            held, expected = len(image.PixelData), pixel_bytes(image)
            if held < expected and not syntax.is_compressed:
                what = f"the pixels are damaged or cut short: {held} bytes of {expected}"
                raise ScanError(what, where=path, fix="copy or export the file again")
            pixels: npt.NDArray[Any] = image.pixel_array
            return pixels
    except ScanError:
        raise
    except MemoryError as error:
        raise ScanError("its pixels need more memory than is available", where=path) from error
    except Exception as error:  # every decoder has its own exceptions
        if "missing" in str(error) and ("plugin" in str(error) or "dependenc" in str(error)):
            raise MissingExtraError(
                "the DICOM files are compressed, and no decoder for this compression is installed",
                where=path,
                fix=installing("dicom"),
            ) from error
        raise ScanError("the pixels are damaged", where=path, fix="copy or export the file again") from error


def pixel_bytes(header: Any) -> int:
    """Number of bytes that the pixels of a file take before compression."""
    voxels = int(header.Rows) * int(header.Columns) * frames_of(header)
    return voxels * int(header.get("SamplesPerPixel") or 1) * int(header.get("BitsAllocated") or 16) // 8


def syntax_of(image: Any) -> Any:
    """The transfer syntax of a pydicom dataset; that of a file without meta information, by how it was read."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    known = image.file_meta.get("TransferSyntaxUID")
    if known is not None:
        return known
    implicit, little = image.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
