from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from maesil.ct import write as module
from maesil.ct.geometry import Geometry
from maesil.ct.readers import read
from maesil.ct.readers.nifti import description
from maesil.ct.volume import Volume
from maesil.ct.write import MARK, is_marked, nifti_ending, read_apart, sibling_path, write_nifti
from maesil.errors import ConfigError, ScanError

ORIENTATIONS = ["".join(letters) for axes in permutations(("SI", "PA", "LR")) for letters in product(*axes)]
TILT = Rotation.from_euler("xyz", (9.0, -14.0, 12.0), degrees=True).as_matrix()


def oblique_volume(orientation: str = "SPL", dtype: str = "int16") -> Volume:
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(dtype)
    geometry = Geometry.from_parts((3, 4, 5), (2.5, 0.8, 0.7), (-120.0, 33.0, 400.0), TILT @ np.eye(3)[:, ::-1])
    return Volume(array, geometry).reorient(orientation)


def corners(volume: Volume) -> np.ndarray:
    return np.array(list(np.ndindex(volume.shape)), dtype=np.float64)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_write_nifti__read_gives_the_same_volume(tmp_path: Path, orientation: str) -> None:
    volume = oblique_volume(orientation)
    write_nifti(tmp_path / "v.nii", volume)
    back = read(tmp_path / "v.nii")
    assert back.geometry.orientation == orientation
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine, atol=1e-4)


@pytest.mark.parametrize("orientation", ["SPL", "IPL", "RAI", "LSP", "AIL"])
def test_write_nifti__simpleitk_reads_the_same_places(tmp_path: Path, orientation: str) -> None:
    volume = oblique_volume(orientation)
    write_nifti(tmp_path / "v.nii.gz", volume)
    theirs = SimpleITK.ReadImage(str(tmp_path / "v.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), volume.array)
    indices = corners(volume)
    mm = [theirs.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in indices]
    np.testing.assert_allclose(volume.geometry.index_to_mm(indices), mm, atol=1e-3)


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
def test_write_nifti__header_says_everything(tmp_path: Path, dtype: str) -> None:
    volume = oblique_volume(dtype=dtype)
    write_nifti(tmp_path / "v.nii.gz", volume)
    header = nibabel.load(tmp_path / "v.nii.gz").header
    assert header.get_data_dtype() == np.dtype(dtype)
    assert header.get_xyzt_units()[0] == "mm"
    (sform, sform_code), (qform, qform_code) = header.get_sform(coded=True), header.get_qform(coded=True)
    assert (int(sform_code), int(qform_code)) == (1, 1)
    np.testing.assert_allclose(sform, qform, atol=1e-3)


def test_write_nifti__replaces_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    path.write_text("old")
    write_nifti(path, oblique_volume())
    assert read(path).shape == (3, 4, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["v.nii"]


def test_write_nifti__a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.nii"
    path.write_text("old")

    def cut_off(part: Path, volume: Volume, made_by: str | None) -> None:
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(module, "_write", cut_off)
    with pytest.raises(OSError, match="disk full"):
        write_nifti(path, oblique_volume())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["v.nii"]


def test_write_nifti__refuses_what_nifti_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.nii"):
        write_nifti(tmp_path / "v.nrrd", oblique_volume())
    with pytest.raises(ConfigError, match="folder"):
        write_nifti(tmp_path / "absent" / "v.nii", oblique_volume())
    tilted = np.eye(4)
    tilted[1, 0] = 0.3
    with pytest.raises(ScanError, match="sheared"):
        write_nifti(tmp_path / "v.nii", Volume(np.zeros((2, 2, 2), np.int16), Geometry((2, 2, 2), tilted)))


def test_read_apart__refuses_to_replace_a_file_of_the_scan(tmp_path: Path) -> None:
    scan, free = tmp_path / "v.nii", tmp_path / "found.nii"
    write_nifti(scan, oblique_volume())
    (tmp_path / "link.nii").symlink_to(scan)
    (tmp_path / "folder").mkdir()
    for own in (scan, tmp_path / "link.nii", tmp_path / "folder" / ".." / "v.nii"):
        for at, name in ((scan, own), (own, scan)):
            with pytest.raises(ConfigError, match="the scan's own"):
                read_apart(at, (free, name))
    assert read_apart(scan, (free,)).shape == (3, 4, 5)
    with pytest.raises(ScanError, match="no such file"):
        read_apart(free, (free,))


def test_read_apart__refuses_to_replace_what_maesil_did_not_write(tmp_path: Path) -> None:
    scan, labels, names = tmp_path / "v.nii", tmp_path / "v_mask.nii.gz", tmp_path / "v_mask_classes.json"
    write_nifti(scan, oblique_volume())
    read_apart(scan, (labels, names))
    write_nifti(labels, oblique_volume())
    with pytest.raises(ConfigError, match="nothing says that maesil wrote it") as raised:
        read_apart(scan, (labels, names))
    assert "--replace" in (raised.value.fix or "")
    read_apart(scan, (labels, names), replace=True)
    with pytest.raises(ConfigError, match="the scan's own"):
        read_apart(scan, (scan,), replace=True)


def test_read_apart__replaces_what_maesil_wrote(tmp_path: Path) -> None:
    scan, found, names = tmp_path / "v.nii", tmp_path / "found.nii", tmp_path / "found_classes.json"
    write_nifti(scan, oblique_volume())
    names.write_text("{}")
    with pytest.raises(ConfigError, match="nothing says"):
        read_apart(scan, (found, names))
    write_nifti(found, oblique_volume(), made_by="predict")
    assert read_apart(scan, (found, names)).shape == (3, 4, 5)


def test_is_marked__a_damaged_file_has_no_mark(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    write_nifti(path, oblique_volume(), made_by="reconstruct")
    assert is_marked(path)
    path.write_bytes(path.read_bytes()[:30])
    assert not is_marked(path)
    assert not is_marked(tmp_path / "absent.nii")


@pytest.mark.parametrize("program", ["nibabel", "SimpleITK"])
def test_is_marked__a_file_that_was_corrected_is_its_editor_s(program: str, tmp_path: Path) -> None:
    """Both programs keep the mark in the header."""
    path = tmp_path / "a_seg.nii.gz"
    write_nifti(path, oblique_volume(dtype="uint8"), made_by="predict")
    resave(path, program, add=0)
    assert is_marked(path)
    resave(path, program, add=1)
    assert description(path).startswith(MARK)
    assert not is_marked(path)
    with pytest.raises(ConfigError, match="nothing says that maesil wrote it"):
        read_apart(tmp_path / "scan.nii", (path,))


def resave(path: Path, program: str, add: int) -> None:
    if program == "nibabel":
        image = nibabel.load(path)
        nibabel.save(image.__class__(np.asarray(image.dataobj) + np.uint8(add), None, image.header), path)
        return
    read_image = SimpleITK.ReadImage(str(path))
    changed = SimpleITK.GetImageFromArray(SimpleITK.GetArrayFromImage(read_image) + np.uint8(add))
    changed.CopyInformation(read_image)
    for key in read_image.GetMetaDataKeys():
        changed.SetMetaData(key, read_image.GetMetaData(key))
    SimpleITK.WriteImage(changed, str(path))


def test_read_apart__knows_the_data_files_of_a_header(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), dtype=np.int16))
    SimpleITK.WriteImage(image, tmp_path / "v.mhd")
    with pytest.raises(ConfigError, match="the scan's own"):
        read_apart(tmp_path / "v.mhd", (tmp_path / "v.raw",))


def test_nifti_ending__a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "v.nii").mkdir()
    (tmp_path / "w_mask.nii").mkdir()
    with pytest.raises(ConfigError, match="this is a folder"):
        nifti_ending(tmp_path / "v.nii")
    with pytest.raises(ConfigError, match="this is a folder"):
        sibling_path(tmp_path / "w.nii", "_mask.nii")
