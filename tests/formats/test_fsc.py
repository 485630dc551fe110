"""FSC tables and EMDB's XML go out and come back."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.fsc import fsc_table, read_fsc, read_fsc_xml, write_fsc, write_fsc_xml
from firn.formats.star import read_star, write_star


@pytest.mark.parametrize("n", [10, 11])
def test_a_table_comes_back_as_it_was_with_relions_labels_on_disk(tmp_path, n: int):
    curve = np.linspace(1, 0, 6)
    table = fsc_table({"corrected": curve, "unmasked": curve / 2, "spherical": curve / 3}, n, 1.5)
    write_fsc(tmp_path / "fsc.star", table)
    pd.testing.assert_frame_equal(read_fsc(tmp_path / "fsc.star"), table, check_dtype=False, atol=1e-5)
    assert "rlnFourierShellCorrelationCorrected" in read_star(tmp_path / "fsc.star")["fsc"].columns


def test_the_resolution_of_a_shell_is_the_box_over_its_number():
    table = fsc_table({"corrected": np.ones(6)}, 10, 2.0)
    assert table["resolution"].tolist() == pytest.approx([999, 20, 10, 20 / 3, 5, 4])
    assert table["frequency"][5] == pytest.approx(0.25)


def test_a_star_file_without_curves_is_refused(tmp_path):
    write_star(tmp_path / "x.star", {"other": pd.DataFrame({"a": [1]})})
    with pytest.raises(InputError, match="no block data_fsc"):
        read_fsc(tmp_path / "x.star")


def test_the_xml_has_the_elements_emdb_asks_for(tmp_path):
    write_fsc_xml(tmp_path / "fsc.xml", np.array([0.0, 0.1]), np.array([1.0, 0.5]), "masks & phases")
    root = ElementTree.parse(tmp_path / "fsc.xml").getroot()
    assert root.tag == "fsc"
    assert root.attrib["title"] == "masks & phases"
    points = [(float(point.findtext("x", "")), float(point.findtext("y", ""))) for point in root.findall("coordinate")]
    assert points == [(0.0, 1.0), (0.1, 0.5)]


@pytest.mark.parametrize(
    "text", ["", "<fsc/>", "<map><coordinate><x>1</x><y>1</y></coordinate></map>", "<fsc><coordinate><x>a</x></coordinate></fsc>"]
)
def test_xml_that_is_no_curve_is_refused(tmp_path, text):
    (tmp_path / "fsc.xml").write_text(text)
    with pytest.raises(InputError, match=r"fsc\.xml"):
        read_fsc_xml(tmp_path / "fsc.xml")


def test_a_curve_comes_back_from_emdbs_xml(tmp_path):
    frequency, curve = np.linspace(0, 0.5, 11), np.linspace(1, -0.1, 11)
    write_fsc_xml(tmp_path / "fsc.xml", frequency, curve, "a < b & c")
    x, y, title = read_fsc_xml(tmp_path / "fsc.xml")
    np.testing.assert_allclose((x, y), (frequency, curve), atol=1e-6)
    assert title == "a < b & c"
