"""Decision files of a human, in the three forms they come in."""

import pytest

from firn.errors import InputError
from firn.formats.decisions import find_decision, read_decisions

YAML = "e0123456789ab: accept\nmic2.mrc: Reject\n"
CSV = "micrograph,decision\nraw/mic1.mrc,accept\nmic2.mrc,reject\nmic3.mrc,\n"
STAR = "data_decisions\n\nloop_\n_rlnMicrographName #1\n_firnHumanVerdict #2\nraw/mic1.mrc accept\nmic2.mrc reject\nmic3.mrc none\n"


@pytest.mark.parametrize(("name", "text"), [("d.yaml", YAML), ("d.csv", CSV), ("d.star", STAR)])
def test_yaml_csv_and_star_say_the_same(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    decisions = read_decisions(tmp_path / name)
    assert find_decision(decisions, "e0123456789ab", "raw/mic1.mrc")[1] == "accept"
    assert find_decision(decisions, "e999", "results/motion/mic2.mrc")[1] == "reject"
    assert find_decision(decisions, "e999", "mic3.mrc") is None


def test_a_micrograph_may_be_named_without_its_ending(tmp_path):
    (tmp_path / "d.yaml").write_text("mic2: reject\n")
    assert find_decision(read_decisions(tmp_path / "d.yaml"), "e1", "a/mic2.mrc") == ("mic2", "reject")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.yaml", "mic: perhaps\n", "neither accept nor reject"),
        ("d.yaml", "- mic\n", "expected lines"),
        ("d.yaml", "a: [unclosed\n", "cannot be read"),
        ("d.csv", "name,what\na,b\n", "needs a column"),
        ("d.csv", "", "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_decisions(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml"):
        read_decisions(tmp_path / "absent.yaml")
