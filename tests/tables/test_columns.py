import numpy as np
import pandas as pd
import pytest

from fmrilm.tables.columns import ColumnEncoder, is_acquisition, kind_of
from fmrilm.tables.families import family_units


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("site", [1, 2, 3, 4] * 5, "category"),
        ("sex", [0, 1] * 10, "category"),
        ("sex", [0.0, 1.0, np.nan, 1.0] * 5, "category"),
        ("ManufacturersModelName", ["Trio", "Prisma"] * 10, "category"),
        ("scanner_id", list(range(20)), "category"),
        ("group", [True, False] * 10, "category"),
        ("apoe", [0, 1, 2, 1] * 5, "category"),
        ("age", [9, 10, 11, 10] * 5, "number"),
        ("handedness", list(range(-100, 100, 10)), "number"),
        ("iq", list(range(90, 110)), "number"),
        ("mean_fd", [0.1, 0.2] * 10, "number"),
        ("notes", [f"seen by {i}" for i in range(20)], "text"),
    ],
)
def test_the_kind_of_a_column(name, values, kind):
    assert kind_of(pd.Series(values, name=name)) == kind


def test_acquisition_columns_are_known_by_their_words():
    names = ["site", "ScannerType", "acq_batch", "MagneticFieldStrength", "StationName"]
    assert all(map(is_acquisition, names))
    assert not any(map(is_acquisition, ["age", "description", "mmse", "title", "sextant"]))


@pytest.mark.parametrize("code", [int, float, str])
def test_codes_and_words_give_the_same_features(code):
    rng = np.random.default_rng(0)
    sites = rng.integers(1, 6, 80)
    words = pd.DataFrame({"site": [f"site {site}" for site in sites]})
    codes = pd.DataFrame({"site": [code(site) for site in sites]})
    of_words, of_codes = (
        ColumnEncoder().fit(table[:60], ["site"]).transform(table) for table in (words, codes)
    )
    assert (of_words == of_codes).all()


def test_a_number_is_scaled_by_the_training_rows_and_an_unknown_value_is_nothing():
    table = pd.DataFrame({"age": [20.5, 30.0, 40.0, np.nan], "site": ["a", "b", "a", "new"]})
    features = ColumnEncoder().fit(table[:3], ["age", "site"]).transform(table)
    assert features[:3, 0].mean() == pytest.approx(0)
    assert np.isnan(features[3, 0])
    assert features[3, 1:].tolist() == [0, 0]


def test_families_are_joined_over_several_columns():
    table = pd.DataFrame(
        {
            "participant_id": list("abcdef"),
            "Family_ID": ["51", "51", None, "52", None, None],
            "Mother_ID": [np.nan, 7, 7, 8, -9, -9],
        }
    )
    units = family_units(table).tolist()
    assert units[0] == units[1] == units[2] == "family 51"
    assert units[3:] == ["family 52", "subject e", "subject f"]
