"""CT in numpy: volumes in HU with their geometry, readers, resampling, the HU window, NIfTI export.

Light to import: nibabel, SimpleITK and pydicom are loaded by the functions that need them.
"""

from maesil.ct.geometry import Geometry
from maesil.ct.orientation import CANONICAL
from maesil.ct.volume import AIR_HU, Volume
from maesil.ct.window import Window

__all__ = ["AIR_HU", "CANONICAL", "Geometry", "Volume", "Window"]
