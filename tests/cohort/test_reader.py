"""One reader: whoever asks for a scan is given the same numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

from fmrilm.cohort.cohort import Cohort, write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.pack import pack
from fmrilm.cohort.reader import ScanReader
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.evaluation.baselines.features import extract
from fmrilm.evaluation.scoring import Scorer
from fmrilm.evaluation.tokenizer.report import read_scans
from fmrilm.studies.known import CohortInfo
from fmrilm.training.data.dataset import ScanDataset

POINTS = 24


@pytest.fixture(params=["none", "robust_roi", "standard_global"])
def cohort(tmp_path, request):
    """Scans that are too short, too long and just right, with absent and constant regions."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(30):
        series = rng.standard_normal((5, (20, 24, 31)[i % 3])) * 3 + 7
        series[i % 5] = np.nan if i % 2 else 4.0
        samples.append((f"s{i:02d}", "1", series))
    ids = [str(i) for i in range(5)]
    write_store(tmp_path / "data_resampled.h5", samples, t_r=2, atlas="x", roi_ids=ids, source="t")
    people = pd.DataFrame({"participant_id": [name for name, _, _ in samples]})
    write_table(people, tmp_path / "participants.tsv")
    write_info(tmp_path, CohortInfo("mine", "", norm=request.param))
    return Cohort(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_every_entry_point_reads_the_same_tensors(cohort, packed):
    if packed:
        pack(str(cohort.folder))
        cohort = Cohort(cohort.folder)
        assert cohort._packed is not None
    rows = cohort.indices("train").tolist()
    fmri, mask = ScanReader(cohort, POINTS, "pad").batch(rows)
    assert fmri.shape == mask.shape == (len(rows), 5, POINTS)
    assert (fmri[~mask] == 0).all()

    scored = Scorer(None, cohort, POINTS, length="pad").batch(rows)
    torch.testing.assert_close(scored, (fmri, mask), rtol=0, atol=0)

    dataset = ScanDataset([cohort], [(0, row) for row in rows], POINTS, "pad")
    for position in range(len(rows)):
        item = dataset[position]
        torch.testing.assert_close(item["fmri"], fmri[position], rtol=0, atol=0)
        usable = item["roi_mask"]
        usable = usable if usable.ndim == 2 else usable[:, None].expand(-1, POINTS)
        assert torch.equal(usable, mask[position])

    scans = read_scans(cohort, "train", POINTS, "pad")
    np.testing.assert_array_equal(scans.series, fmri)
    np.testing.assert_array_equal(scans.model_masks, mask)

    found = extract(cohort, np.array(rows), POINTS, ["series"])["series"]
    np.testing.assert_array_equal(found, fmri)


def test_altered_scans_are_padded_after_they_are_altered(cohort):
    [short] = [row for row in cohort.indices("train") if cohort.store.shape(int(row))[1] == 20][:1]
    reader = ScanReader(cohort, POINTS, "pad")
    fmri, mask = reader.batch([short], lambda series, index: series + 1)
    assert (fmri[0, :, 20:] == 0).all()
    assert not mask[0, :, 20:].any()
    assert torch.equal(fmri[0, :, :20], torch.from_numpy(reader.clip(short)[0] + 1).float())


def test_a_short_scan_is_refused_everywhere_unless_padded(cohort):
    rows = cohort.indices("train").tolist()
    for read in (
        lambda: ScanReader(cohort, POINTS).batch(rows),
        lambda: Scorer(None, cohort, POINTS).batch(rows),
        lambda: [ScanDataset([cohort], [(0, row)], POINTS)[0] for row in rows],
        lambda: read_scans(cohort, "train", POINTS),
    ):
        with pytest.raises(InputError, match=r"data\.length=pad"):
            read()


def test_scans_in_memory_are_bounded_in_bytes_and_the_last_read_stay(cohort):
    rows = [(0, row) for row in range(5)]
    size = sum(part.nbytes for part in ScanDataset([cohort], rows, POINTS, "pad").scan(rows[0]))
    dataset = ScanDataset([cohort], rows, POINTS, "pad", cache_gb=3.5 * size / 1e9)
    kept = [dataset.scan(row) for row in rows]
    assert [dataset.scan(row)[0] is kept[row[1]][0] for row in rows[2:]] == [True] * 3
    dataset.scan(rows[2])  # now row 3 was read longest ago
    dataset.scan(rows[0])
    assert dataset.scan(rows[2])[0] is kept[2][0]
    assert dataset.scan(rows[3])[0] is not kept[3][0]
    none = ScanDataset([cohort], rows, POINTS, "pad", cache_gb=0.0)
    assert none.scan(rows[0])[0] is not none.scan(rows[0])[0]
