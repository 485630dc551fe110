"""What a choice of a picker changes in the jobs, and what it is answered where it cannot do."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import yaml

from firn.dag.catalogue import Catalogue
from firn.errors import InputError
from firn.formats.mrc import read_mrc, write_stack
from firn.formats.tables import read_table, write_table
from firn.live import control, layout
from firn.live.control import Choice, Picker, read_control
from firn.live.pickers import KEYS, changes_of, decided, latest_wish, source_of, templates_of, trained_models, write_decision

TYPES = Catalogue(Path(__file__).resolve().parents[2] / "config/schema.json").types
BLOBS = {"type": "blob_picker", "min_diameter": 80, "max_diameter": 120, "edge": 0.1, "circle": True, "ellipse": False, "ring": False}
FUSED = {"type": "preprocess", "templates": None, "blob_min_diameter": 80, "blob_max_diameter": 120, "template_diameter": None}
SEPARATE: dict[str, Any] = {"pickers": {"blobs": BLOBS}, "inspections": {"picks": {"type": "inspect_picks"}}}
IN_ONE: dict[str, Any] = {"pickers": {"pre": FUSED}, "inspections": {}}


def test_the_keys_are_the_parameters_of_the_pickers_and_of_the_inspection() -> None:
    own = {"plots"}
    for kind, keys in KEYS.items():
        slots = set(TYPES[kind].slots) - {"templates"}
        assert set(keys) == set(TYPES[kind].schema["properties"]) - slots - own - {"type"}, kind
    assert set(control.LIMIT_KEYS) <= set(TYPES["inspect_picks"].schema["properties"])
    everything = {name for keys in KEYS.values() for name in keys} | {"type", *control.LIMIT_KEYS}
    assert set(Choice.model_fields) == everything
    assert set(KEYS) == set(get_args(get_args(Choice.model_fields["type"].annotation)[0]))


def test_other_diameters_change_the_picker_and_limits_the_inspection() -> None:
    changes = changes_of(Picker(max_diameter=150, min_ncc=0.2), SEPARATE, "")
    assert changes["blobs"] == {"type": "blob_picker", "settings": {"max_diameter": 150}, "folders": {}}
    assert changes["picks"] == {"type": "inspect_picks", "settings": {"min_ncc": 0.2}, "folders": {}}
    fused = changes_of(Picker(max_diameter=150, min_ncc=0.2), IN_ONE, "")["pre"]
    assert fused == {
        "type": "preprocess", "settings": {"blob_max_diameter": 150, "limit_min_ncc": 0.2, "templates": None}, "folders": {},
    }  # fmt: skip


def test_templates_take_the_largest_blob_as_their_diameter() -> None:
    choice = Picker(type="template_picker", templates="keep/1")
    changes = changes_of(choice, SEPARATE, "t")
    assert changes["blobs"] == {"type": "template_picker", "settings": {"diameter": 120}, "folders": {"templates": "t"}}
    assert changes_of(choice, IN_ONE, "t")["pre"]["settings"] == {"template_diameter": 120}
    assert changes_of(choice.model_copy(update={"diameter": 95}), SEPARATE, "t")["blobs"]["settings"] == {"diameter": 95}


def test_topaz_takes_the_largest_blob_as_its_diameter_and_limits_on_correlations_are_lifted() -> None:
    changes = changes_of(Picker(type="topaz_picker", threshold=-1), SEPARATE, "")
    assert changes["blobs"] == {"type": "topaz_picker", "settings": {"diameter": 120, "threshold": -1}, "folders": {}}
    assert changes["picks"]["settings"] == {"min_ncc": None, "min_power": None, "max_power": None}


TOPAZ: dict[str, Any] = {"type": "topaz_picker", "diameter": 100, "trained": "mine", "model": None, "threshold": 0.0}


def test_a_model_by_name_replaces_a_trained_one_and_the_other_way_round() -> None:
    def settings(choice: Picker, source: str, own: dict[str, Any]) -> dict[str, Any]:
        return changes_of(choice, {"pickers": {"topaz": TOPAZ | own}, "inspections": {"picks": {}}}, source)["topaz"]

    named = settings(Picker(model="resnet8"), "", {})
    assert named == {"type": "topaz_picker", "settings": {"model": "resnet8", "trained": None}, "folders": {}}
    trained = settings(Picker(model="better"), "results/better", {"trained": None, "model": "resnet8"})
    assert trained == {"type": "topaz_picker", "settings": {"model": None}, "folders": {"trained": "results/better"}}
    assert settings(Picker(threshold=2), "", {})["settings"] == {"threshold": 2}
    judged = changes_of(Picker(threshold=2), {"pickers": {"topaz": TOPAZ}, "inspections": {"picks": {}}}, "")["picks"]
    assert judged["settings"] == {}


@pytest.mark.parametrize(
    ("choice", "picking", "sentence"),
    [
        (Picker(type="topaz_picker"), IN_ONE, "Topaz needs jobs of its own"),
        (Picker(type="topaz_picker", min_ncc=0.2), SEPARATE, "picker.min_ncc: limits are on correlation and power"),
        (Picker(type="topaz_picker", edge=1), SEPARATE, "picker.edge: topaz_picker has none"),
        (Picker(model="x"), SEPARATE, "picker.model: blob_picker has none"),
        (Picker(type="topaz_picker"), SEPARATE | {"pickers": {"b": {"type": "blob_picker"}}}, "needs the diameter of the particles in Å"),
    ],
)
def test_what_topaz_cannot_do_is_answered_with_a_sentence(choice: Picker, picking: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        changes_of(choice, picking, "")


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("model.sav", "model.json", "job.json"):
        (folder / name).write_text(f"{name} of {folder.name}")


def test_a_model_is_a_job_of_the_run_a_folder_a_file_or_a_name_that_topaz_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(Path("results/mine"))
    write_model(Path("kept/other"))
    Path("file.sav").touch()
    Path("results/half").mkdir()
    Path("results/half/model.json").touch()
    assert trained_models() == ["mine"]
    found = {name: source_of(Picker(type="topaz_picker", model=name), {}) for name in ("mine", "kept/other", "file.sav", "resnet8", None)}
    assert found == {"mine": "results/mine", "kept/other": "kept/other", "file.sav": "", "resnet8": "", None: ""}
    for name in ("results/mien", "other.sav", "results/half"):
        with pytest.raises(InputError, match=r"picker\.model: there is no model in"):
            source_of(Picker(model=name), {})


def test_a_decision_keeps_a_copy_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(Path("results/mine"))
    wish = {"type": "topaz_picker", "model": "mine", "arguments": ["--dims=2"], "scope": "all"}
    jobs = changes_of(Picker(**wish), SEPARATE, "results/mine")
    write_decision(wish, jobs, {"movies": "0001"}, "results/mine", "control", "", 5.0)
    assert latest_wish() == wish
    kept = decided()[0]["jobs"]["blobs"]["folders"]["trained"]
    assert {path.name: path.read_text() for path in Path(kept).iterdir()} == {
        name: f"{name} of mine" for name in ("model.sav", "model.json", "job.json")
    }


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (Picker(diameter=90), "did you mean 'min_diameter'|known"),
        (Picker(type="template_picker"), "needs templates"),
        (Picker(min_diameter=130), "smaller than the smallest"),
        (Picker(circle=False), "one of circle, ellipse and ring"),
        (Picker(type="template_picker", templates="x", ring=True), "template_picker has none"),
    ],
)
def test_what_cannot_do_is_answered_with_a_sentence(choice: Picker, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        changes_of(choice, SEPARATE, "")


def test_limits_need_a_job_that_sets_them() -> None:
    with pytest.raises(InputError, match="no inspect_picks"):
        changes_of(Picker(min_ncc=0.2), SEPARATE | {"inspections": {}}, "")
    with pytest.raises(InputError, match="no job of the config picks"):
        changes_of(Picker(max_diameter=140), {"pickers": {}, "inspections": {}}, "")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"picker": {"max_diamter": 3}}, "did you mean 'max_diameter'"),
        ({"picker": {"type": "blob"}}, "blob_picker"),
        ({"picker": {"min_diameter": 3, "max_diameter": 2}}, "larger than max_diameter"),
        ({"test": {"type": "blob_picker"}}, "test.exposure"),
        ({"test": {"exposure": "a", "scope": "all"}}, "scope"),
    ],
)
def test_a_typo_in_the_control_file_is_answered_with_a_hint(tmp_path: Path, content: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "control.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=sentence):
        read_control(path)


def write_classes(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    write_stack(folder / "classes.mrcs", np.arange(count * 64, dtype=np.float32).reshape(count, 8, 8), 4.0)
    names = [f"{number:06d}@{folder}/classes.mrcs" for number in range(1, count + 1)]
    write_table(folder / "classes.star", pd.DataFrame({"class_number": range(1, count + 1), "class_image": names}), "classes")


def selection(number: int, state: str = "done") -> dict[str, Any]:
    return {"number": number, "role": "select", "state": state, "finished": float(number)}


def test_templates_are_a_round_of_a_selection_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no selection of 2D classes yet"):
        templates_of("latest", {})
    for number in (1, 2):
        write_classes(Path(f"results/keep/rounds/000{number}"), 2)
    rounds = {"keep": [selection(1), selection(2), selection(3, "refused")]}
    assert templates_of("latest", rounds) == "results/keep/rounds/0002"
    assert templates_of("keep/1", rounds) == "results/keep/rounds/0001"
    assert templates_of("results/keep/rounds/0001", {}) == "results/keep/rounds/0001"
    with pytest.raises(InputError, match=r"did you mean 'keep/2'|keep/1"):
        templates_of("keep/7", rounds)


def test_a_decision_keeps_a_copy_of_its_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_classes(Path("results/keep/rounds/0001"), 3)
    jobs = changes_of(Picker(type="template_picker", templates="keep/1"), SEPARATE, "results/keep/rounds/0001")
    wish = {"type": "template_picker", "templates": "keep/1", "scope": "all"}
    write_decision(wish, jobs, {"movies": "0001"}, "results/keep/rounds/0001", "control", "better", 5.0)
    assert latest_wish() == wish
    (entry,) = decided()
    kept = entry["jobs"]["blobs"]["folders"]["templates"]
    assert (entry["reason"], entry["from"], kept) == ("better", "results/keep/rounds/0001", str(layout.LIVE / "pickers" / "1"))
    copied = read_table(Path(kept) / "classes.star", "classes")
    assert list(copied["class_image"]) == [f"{number:06d}@{kept}/classes.mrcs" for number in (1, 2, 3)]
    np.testing.assert_array_equal(read_mrc(f"{kept}/classes.mrcs")[0], read_mrc("results/keep/rounds/0001/classes.mrcs")[0])
