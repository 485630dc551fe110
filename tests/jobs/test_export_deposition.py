"""The folder of a deposition holds the session's maps and curves unchanged, and says what an archive will still ask."""

import json
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.fsc import read_fsc, read_fsc_xml
from firn.formats.mrc import read_mrc, write_volume
from firn.formats.oscem import oscem_faults
from firn.jobs import export_deposition
from firn.runtime.entry import open_job
from reported_run import PIXEL, SIDE, write_run

ABOUT = {
    "microscope": "Krios", "illumination": "FloodBeam", "imaging": "Brightfield", "electron_source": "FEG", "detector": "K3", "date": "2026-03-01",
    "sample": "ball", "source": "simulated",
}  # fmt: skip
FOLDER = Path("results/deposit/deposition")


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run()
    return tmp_path


def deposit(**settings: Any) -> dict[str, Any]:
    inputs = {"volume": ["results/map"], "exposures": ["results/good"], "templates": ["results/class2d"]}
    inputs |= {slot: [settings.pop(slot)] for slot in ("sharpened", "mask") if slot in settings}
    with open_job(
        export_deposition.Params, {"type": "export_deposition", "volume": "map", **settings}, inputs, Path("results/deposit"), "deposit"
    ) as job:
        export_deposition.run(job)
    return json.loads(Path("results/deposit/job.json").read_text(encoding="utf-8"))


def test_maps_are_the_same_voxels_with_headers_that_every_program_reads(run_folder: Path):
    deposit(about=ABOUT)
    for name in ("map", "half1", "half2", "mask"):
        assert mrcfile.validate(str(FOLDER / f"{name}.mrc"))
        ours, pixel_size = read_mrc(FOLDER / f"{name}.mrc")
        np.testing.assert_array_equal(ours, read_mrc(Path("results/map") / f"{name}.mrc")[0])
        assert pixel_size == pytest.approx(PIXEL)


def test_curves_come_back_from_the_xml_as_they_were(run_folder: Path):
    record = deposit(about=ABOUT)
    table = read_fsc("results/map/fsc.star")
    for name, file in (("corrected", "fsc"), ("tight", "fsc_masked"), ("unmasked", "fsc_unmasked")):
        frequency, curve, title = read_fsc_xml(FOLDER / f"{file}.xml")
        np.testing.assert_allclose(frequency, np.arange(SIDE // 2 + 1) / (SIDE * PIXEL), atol=1e-6)
        np.testing.assert_allclose(curve, table[name], atol=1e-6)
        assert "FSC" in title
    assert record["metrics"]["resolution_corrected"]["value"] < record["metrics"]["resolution_unmasked"]["value"]


def test_metadata_are_whole_when_about_tells_what_nobody_measured(run_folder: Path):
    record = deposit(about=ABOUT)
    document = json.loads((FOLDER / "oscem.json").read_text(encoding="utf-8"))
    assert oscem_faults(document) == []
    assert record["warnings"] == []
    assert document["processing"]["classes2D"]["particles_per_2Dclass"] == [40, 20]
    assert document["processing"]["volumes"][0]["vol_number_particles"] == 40


def test_the_summary_names_symmetry_and_particles_of_the_refinement_behind_the_map(run_folder: Path):
    deposit(about=ABOUT)
    told = (FOLDER / "summary.txt").read_text(encoding="utf-8")
    assert "symmetry: D7" in told
    assert "particles: 40" in told
    assert "sample: ball" in told


def test_what_the_archives_will_ask_is_warned_of(run_folder: Path):
    Path("results/map/half2.mrc").unlink()
    Path("results/map/fsc.star").unlink()
    warnings = " ".join(deposit()["warnings"])
    assert "half2.mrc: is not there" in warnings
    assert "run validate_fsc" in warnings
    assert "'microscope' is a required property" in warnings


def test_a_sharpened_map_takes_the_place_of_the_primary_one(run_folder: Path):
    sharpened = np.random.default_rng(3).normal(size=(SIDE, SIDE, SIDE)).astype(np.float32)
    write_volume(Path("results/sharp/map.mrc"), sharpened, PIXEL)
    deposit(about=ABOUT, sharpened="results/sharp")
    np.testing.assert_array_equal(read_mrc(FOLDER / "map.mrc")[0], sharpened)
    np.testing.assert_array_equal(read_mrc(FOLDER / "half1.mrc")[0], read_mrc("results/map/half1.mrc")[0])


def test_maps_of_different_boxes_or_without_a_pixel_size_are_refused(run_folder: Path):
    write_volume(Path("results/sharp/map.mrc"), np.ones((SIDE + 2,) * 3, dtype=np.float32), PIXEL)
    with pytest.raises(InputError, match="side"):
        deposit(about=ABOUT, sharpened="results/sharp")
    write_volume(Path("results/sharp/map.mrc"), np.ones((SIDE,) * 3, dtype=np.float32), 0.0)
    with pytest.raises(InputError, match="names no pixel size"):
        deposit(about=ABOUT, sharpened="results/sharp")
