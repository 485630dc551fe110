"""OSC-EM documents: what is known stands where the schema wants it, in its units; what is not known is missing and named."""

import json

import pandas as pd
import pytest

from firn.formats.oscem import FinalMap, oscem_document, oscem_faults, write_oscem
from reported_run import EXPOSURES, PIXEL, exposure_table

ABOUT = {
    "microscope": "Titan Krios G4", "illumination": "FloodBeam", "imaging": "Brightfield", "electron_source": "XFEG", "detector": "Falcon 4i",
    "detector_mode": "counting", "date": "2026-03-01", "sample": "apoferritin", "source": "mouse, from E. coli", "molecular_weight_kda": 480,
    "c2_aperture_um": 50, "energy_filter": "Selectris X", "energy_filter_slit_ev": 10, "magnification": 130000, "grid_material": "Au",
}  # fmt: skip


def measured() -> pd.DataFrame:
    return exposure_table().assign(
        defocus_u=12000.0,
        defocus_v=10000.0,
        ctf_fit_resolution=[3.0] * (EXPOSURES - 1) + [5.0],
        motion_total=7.0,
        gain="results/movies/gain.mrc",
    )


def test_a_document_of_a_whole_session_is_what_the_schema_wants():
    assert oscem_faults(oscem_document(ABOUT, measured(), FinalMap(256, 2.5, 12345), [40, 20])) == []


def test_what_is_required_and_unknown_is_named_and_not_made_up():
    document = oscem_document({}, measured(), None)
    missing = "\n".join(oscem_faults(document))
    for name in ("microscope", "illumination", "imaging", "electron_source", "detectors", "date_time"):
        assert f"'{name}' is a required property" in missing
    assert "sample" not in document
    assert "acceleration_voltage" not in missing


@pytest.mark.parametrize(
    ("place", "value", "si"),
    [
        (("instrument", "acceleration_voltage"), 300.0, 300e3),
        (("instrument", "cs"), 2.7, 2.7e-3),
        (("instrument", "c2_aperture"), 50.0, 50e-6),
        (("acquisition", "pixel_size"), PIXEL, PIXEL * 1e-10),
        (("acquisition", "dose_per_movie"), 50.0, 50 / (1e-10) ** 2),
    ],
)
def test_quantities_tell_the_same_in_their_unit_and_in_si(place: tuple[str, str], value: float, si: float):
    found = oscem_document(ABOUT, measured(), None)[place[0]][place[1]]
    assert found["value"] == pytest.approx(value)
    assert found["valueSI"] == pytest.approx(si, rel=1e-5)


def test_processing_tells_the_numbers_of_the_tables():
    processing = oscem_document(ABOUT, measured(), FinalMap(256, 2.5, 700), [40, 20])["processing"]
    assert processing["micrographs"] == {"number_micrographs": EXPOSURES}
    assert processing["ctfs"]["defocus"]["output_avg_defocus"] == {"value": 11000.0, "unit": "Å"}
    assert processing["ctfs"]["resolution"]["output_max_resolution"]["value"] == 5.0
    assert processing["coordinates"]["particles_per_micrograph"] == pytest.approx(700 / EXPOSURES)
    assert processing["classes2D"]["particles_per_2Dclass"] == [40, 20]
    assert processing["volumes"] == [
        {"volume_type": "final volume", "size": [256, 256, 256], "vol_number_particles": 700, "vol_resolution": {"value": 2.5, "unit": "Å"}}
    ]


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ("2026-03-01", "2026-03-01T00:00:00Z"),
        ("2026-03-01 12:30", "2026-03-01T12:30:00Z"),
        ("2026-03-01T12:30+02:00", "2026-03-01T10:30:00Z"),
    ],
)
def test_dates_are_moments_in_utc(told: str, moment: str):
    assert oscem_document({"date": told}, pd.DataFrame(), None)["acquisition"]["date_time"] == moment


def test_a_wrong_field_and_a_wrong_type_are_faults():
    document = oscem_document(ABOUT, measured(), None)
    document["acquisition"]["pixelsize"] = 1.0
    document["instrument"]["cs"]["value"] = "2.7 mm"
    faults = oscem_faults(document)
    assert any("pixelsize" in fault for fault in faults)
    assert any(fault.startswith("instrument.cs") for fault in faults)


def test_the_file_is_plain_json(tmp_path):
    document = oscem_document(ABOUT, measured(), FinalMap(16, None, None))
    write_oscem(tmp_path / "oscem.json", document)
    assert json.loads((tmp_path / "oscem.json").read_text(encoding="utf-8")) == document
