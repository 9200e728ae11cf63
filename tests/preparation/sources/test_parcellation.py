from pathlib import Path

import numpy as np
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.errors import InputError
from fmrilm.preparation.sources.parcellate import parcellate_nifti

nib = pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")

LABEL_AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
BLOCKS = {7: slice(0, 8), 3: slice(8, 16), 12: slice(16, 24)}  # label -> its slab in x


@pytest.fixture
def atlas():
    return Atlas.generic(["3", "7", "12"], "slabs")


@pytest.fixture
def labels_img(tmp_path):
    labels = np.zeros((24, 10, 10), np.int16)
    for label, slab in BLOCKS.items():
        labels[slab] = label
    path = tmp_path / "labels.nii.gz"
    nib.save(nib.Nifti1Image(labels, LABEL_AFFINE), path)
    return path


def _scan(path: Path, series: np.ndarray, affine=LABEL_AFFINE, shape=(24, 10, 10), t_r=0.8):
    """Paint row 0, 1, 2 into the slabs of labels 3, 7, 12."""
    image = np.zeros((*shape, series.shape[1]), np.float32)
    for row, label in enumerate((3, 7, 12)):
        step = affine[0, 0] / LABEL_AFFINE[0, 0]
        slab = BLOCKS[label]
        image[int(slab.start / step) : int(slab.stop / step)] = series[row]
    nifti = nib.Nifti1Image(image, affine)
    nifti.header.set_zooms((*np.abs(np.diag(affine)[:3]), t_r))
    nifti.header.set_xyzt_units("mm", "sec")
    nib.save(nifti, path)
    return path


@pytest.fixture
def series():
    return np.random.default_rng(0).standard_normal((3, 70)).astype(np.float32) + 100


def test_regions_are_found_by_label_whatever_the_order(tmp_path, series, labels_img, atlas):
    found = parcellate_nifti(_scan(tmp_path / "x.nii.gz", series), atlas, labels_img)
    np.testing.assert_allclose(found.series, series, rtol=1e-6)
    np.testing.assert_array_equal(found.coverage, 1)
    assert found.t_r == pytest.approx(0.8)
    turned = parcellate_nifti(tmp_path / "x.nii.gz", atlas.select(["12", "3", "7"]), labels_img)
    np.testing.assert_array_equal(turned.series, found.series[[2, 0, 1]])


def test_a_coarser_grid_gives_the_same_series(tmp_path, series, labels_img, atlas):
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = 1.0  # the centre of eight voxels
    path = _scan(tmp_path / "x.nii.gz", series, affine, (12, 5, 5))
    found = parcellate_nifti(path, atlas, labels_img)
    np.testing.assert_allclose(found.series, series, rtol=1e-6)
    np.testing.assert_array_equal(found.coverage, 1)


def test_a_region_outside_the_field_of_view_is_absent(tmp_path, series, labels_img, atlas):
    path = _scan(tmp_path / "x.nii.gz", series)
    image = nib.load(path)
    nib.save(image.slicer[:18], path)  # label 12 (x 16..23) keeps a quarter
    found = parcellate_nifti(path, atlas, labels_img, min_coverage=0.5)
    assert found.coverage.tolist() == [1, 1, 0.25]
    assert np.isnan(found.series[2]).all()
    assert "1 regions absent" in found.notes[0]
    kept = parcellate_nifti(path, atlas, labels_img, min_coverage=0.2)
    np.testing.assert_allclose(kept.series, series, rtol=1e-6)


def test_constant_voxels_and_voxels_outside_the_mask_do_not_count(
    tmp_path, series, labels_img, atlas
):
    path = _scan(tmp_path / "x.nii.gz", series)
    image = np.asarray(nib.load(path).dataobj).copy()
    image[0:4] = 5.0  # half of label 7 is constant
    nib.save(nib.Nifti1Image(image, LABEL_AFFINE), path)
    mask = np.ones((24, 10, 10), np.uint8)
    mask[8:14] = 0  # three quarters of label 3
    nib.save(nib.Nifti1Image(mask, LABEL_AFFINE), tmp_path / "mask.nii")
    found = parcellate_nifti(path, atlas, labels_img, tmp_path / "mask.nii")
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 1])
    assert np.isnan(found.series[0]).all()
    np.testing.assert_allclose(found.series[1], series[1], rtol=1e-6)


def test_a_label_that_the_image_lacks_is_an_absent_region(tmp_path, series, labels_img):
    wide = Atlas.generic(["3", "99", "7", "12"], "slabs")
    found = parcellate_nifti(_scan(tmp_path / "x.nii.gz", series), wide, labels_img)
    assert np.isnan(found.series[1]).all()
    np.testing.assert_allclose(found.series[[0, 2, 3]], series, rtol=1e-6)


def test_a_left_handed_image_is_read_by_its_affine(tmp_path, series, labels_img, atlas):
    path = _scan(tmp_path / "x.nii.gz", series)
    image = nib.load(path)
    flipped = np.asarray(image.dataobj)[::-1]
    affine = LABEL_AFFINE.copy()
    affine[0, 0], affine[0, 3] = -2.0, 2.0 * 23
    nib.save(nib.Nifti1Image(flipped, affine), path)
    found = parcellate_nifti(path, atlas, labels_img)
    np.testing.assert_allclose(found.series, series, rtol=1e-6)


def test_milliseconds_in_the_header_become_seconds(tmp_path, series, labels_img, atlas):
    path = _scan(tmp_path / "x.nii.gz", series, t_r=735)
    image = nib.load(path)
    image.header.set_xyzt_units("mm", "msec")
    nib.save(image, path)
    assert parcellate_nifti(path, atlas, labels_img).t_r == pytest.approx(0.735)


def test_unusable_scans_are_refused_in_one_sentence(tmp_path, series, labels_img, atlas):
    path = _scan(tmp_path / "x.nii.gz", series)
    far = LABEL_AFFINE.copy()
    far[:3, 3] = 1000
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), far), tmp_path / "far.nii")
    with pytest.raises(InputError, match="is it in MNI space"):
        parcellate_nifti(tmp_path / "far.nii", atlas, labels_img)
    with pytest.raises(InputError, match="not \\(x, y, z, time\\)"):
        parcellate_nifti(labels_img, atlas, labels_img)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        parcellate_nifti(path, atlas, labels_img)
    (tmp_path / "text.nii").write_text("no image")
    with pytest.raises(InputError, match="cannot be read"):
        parcellate_nifti(tmp_path / "text.nii", atlas, labels_img)
