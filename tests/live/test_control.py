"""The control file: defaults, checks, and what is recorded; verdicts under it."""

from pathlib import Path

import pytest

from firn.errors import InputError
from firn.live.accept import judge, limits_of, names_of
from firn.live.control import Control, Limits, changes, read_control


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "control.yaml"
    path.write_text(text)
    return path


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    assert read_control(tmp_path / "control.yaml") == Control()
    assert read_control(written(tmp_path, "")) == Control()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("state: puase", "state: Input should be 'run', 'pause', 'stop' or 'end', got 'puase'"),
        ("max_wait: 3", "max_wait: Extra inputs are not permitted"),
        ("qiet_min: 3", "did you mean 'quiet_min'?"),
        ("streams: {frist_2d: 3}", "did you mean 'first_2d'?"),
        ("thresholds: {motion_total: {maxx: 3}}", "did you mean 'max'?"),
        ("thresholds: {motion_total: {maximum: 3}}", "thresholds.motion_total.maximum"),
        ("settle_s: -1", "settle_s: Input should be greater than or equal to 0"),
        ("a: &x [1]\nb: *x", "must not use YAML aliases"),
        ("[1, 2]", "expected lines of 'key: value'"),
        ("state: [", "cannot be read"),
        ("quiet_min: .nan", "quiet_min"),
    ],
)
def test_a_fault_is_one_sentence_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        read_control(written(tmp_path, text))
    assert says in str(error.value)
    assert "control.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_every_change_is_told_with_old_new_and_reason() -> None:
    old, new = Control(), Control(state="pause", reason="new grid", reject=["a"])
    told = changes(old.model_dump(), new.model_dump())
    assert {(entry["what"], str(entry["old"]), str(entry["new"]), entry["reason"]) for entry in told} == {
        ("state", "run", "pause", "new grid"),
        ("reject", "[]", "['a']", "new grid"),
    }


def test_thresholds_of_the_control_file_replace_those_of_the_config_and_a_hand_wins_over_both() -> None:
    given = limits_of([{"max_ctf_fit": 6.0, "max_motion": None}])
    numbers = {"ctf_fit_resolution": 7.0, "motion_total": 50.0}
    assert judge(["x"], numbers, Control(), given) == ("rejected", "ctf_fit_resolution 7 is above 6")
    loose = Control(thresholds={"ctf_fit_resolution": Limits(max=8)})
    assert judge(["x"], numbers, loose, given) == ("accepted", "")
    assert judge(["x"], numbers, Control(accept=["x"]), given)[0] == "accepted"
    assert judge(["x"], numbers, Control(accept=["x"], reject=["x"]), given)[0] == "rejected"


def test_a_number_nobody_measured_rejects_nothing() -> None:
    assert judge(["x"], {}, Control(thresholds={"ice_ring_score": Limits(max=1)}), {}) == ("accepted", "")


def test_limits_have_two_sides_and_their_ends_are_inside() -> None:
    control = Control(thresholds={"defocus": Limits(min=5000, max=20000)})
    verdicts = [judge(["x"], {"defocus": value}, control, {})[0] for value in (4999.0, 5000.0, 20000.0, 20001.0)]
    assert verdicts == ["rejected", "accepted", "accepted", "rejected"]


def test_an_exposure_answers_to_id_path_and_name() -> None:
    assert names_of("e1", "raw/a_Fractions.tiff") == {"e1", "raw/a_Fractions.tiff", "a_Fractions.tiff", "a_Fractions"}
