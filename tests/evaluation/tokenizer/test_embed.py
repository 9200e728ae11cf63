import numpy as np
import pandas as pd
import pytest

from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.tokenizer.embed import ScanEmbedder, embed


@pytest.mark.parametrize(("kind", "width"), [("features", 16), ("codes", 24)])
def test_rows_stand_beside_their_subjects(runs, cohort_folder, tmp_path, kind, width):
    path = embed(runs["tokenizer"], cohort_folder, output=tmp_path / "x.npy", kind=kind)
    rows, ids = np.load(path), pd.read_csv(path.with_suffix(".tsv"), sep="\t", dtype=str)
    cohort = Cohort(cohort_folder)
    assert rows.shape == (len(cohort.indices("test")), width)
    assert (
        ids["subject_id"].tolist()
        == cohort.table["subject_id"].iloc[cohort.indices("test")].tolist()
    )
    index = int(cohort.indices("test")[1])
    embedder = ScanEmbedder(str(runs["tokenizer"] / "model"), kind).fit(None)
    np.testing.assert_allclose(
        embedder.transform(cohort.read(index)[0][None]), rows[1:2], atol=1e-5
    )


def test_another_ending_or_kind_is_refused(runs, cohort_folder, tmp_path):
    with pytest.raises(InputError, match=r"\.npy or \.parquet"):
        embed(runs["tokenizer"], cohort_folder, output=tmp_path / "x.csv")
    with pytest.raises(InputError, match="features or codes"):
        ScanEmbedder("x", "vectors").fit(None)
