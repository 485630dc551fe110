"""Files of other programs find the exposures that they speak of."""

import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.exposure_names import find_exposure, names_of

EXPOSURES = pd.DataFrame(
    {
        "exposure_id": ["e0", "e1", "e2"],
        "movie": ["raw/m1_fractions.tiff", "raw/m2.1_fractions.tiff", "raw/m3.eer"],
        "micrograph": ["results/motion/micrographs/e0.mrc", "results/motion/micrographs/e1.mrc", "results/motion/micrographs/e2.mrc"],
    }
)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("picks/m1_fractions_autopick.star", 0),
        ("m1_manualpick.star", 0),
        ("m1_topazpicks.star", 0),
        ("m1_DW.box", 0),
        ("m1_fractions_DW_autopick.star", 0),
        ("somewhere/else/m1_fractions.mrc", 0),
        ("m2.1", 1),
        ("m2.1.cbox", 1),
        ("e2.box", 2),
        ("m3.eer", 2),
        ("m4.box", None),
        ("m2.box", None),
        ("", None),
    ],
)
def test_folder_ending_and_added_words_are_no_part_of_a_name(name: str, row: int | None) -> None:
    assert find_exposure(names_of(EXPOSURES), name) == row


def test_an_id_that_an_import_put_behind_a_name_is_no_part_of_it() -> None:
    names = names_of(pd.DataFrame({"exposure_id": ["e0"], "micrograph": ["results/x/micrographs/a_e0.mrc"]}))
    assert find_exposure(names, "a.box") == find_exposure(names, "a_e0.box") == 0


def test_the_whole_name_counts_before_the_name_without_added_words() -> None:
    names = names_of(pd.DataFrame({"exposure_id": ["e0", "e1"], "micrograph": ["a.mrc", "a_DW.mrc"]}))
    assert (find_exposure(names, "a.box"), find_exposure(names, "a_DW.box")) == (0, 1)
    assert find_exposure(names, "a_DW_autopick.star") == 1


def test_a_name_of_two_exposures_is_refused() -> None:
    names = names_of(pd.DataFrame({"exposure_id": ["e0", "e1"], "micrograph": ["one/a.mrc", "two/a.mrc"]}))
    with pytest.raises(InputError, match="may mean any of 2 exposures"):
        find_exposure(names, "a.box")
