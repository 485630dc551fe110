"""OSC-EM metadata of a single particle data set as JSON: what the microscope did, what the sample was, and what processing found.

Convention: values with units are `{value, unit}`, those of acquisition and instrument with the same in SI units besides. What is not known is
left out, never guessed; `faults` tells what the schema wants and does not find.
Source: https://github.com/osc-em/OSCEM_Schemas, version 1.0.2, whose JSON schema lies beside this module.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jsonschema import Draft201909Validator

SCHEMA = Path(__file__).with_name("oscem_spa.schema.json")
WORDS = {
    "microscope": ("instrument", "microscope", "model"),
    "microscope_manufacturer": ("instrument", "microscope", "manufacturer"),
    "illumination": ("instrument", "illumination"),
    "imaging": ("instrument", "imaging"),
    "electron_source": ("instrument", "electron_source"),
    "date": ("acquisition", "date_time"),
    "holder": ("acquisition", "holder"),
    "cryogen": ("acquisition", "cryogen"),
    "microscope_software": ("acquisition", "microscope_software"),
    "sample": ("sample", "overall_molecule", "name_sample"),
    "source": ("sample", "overall_molecule", "source"),
    "buffer": ("sample", "specimen", "buffer"),
    "grid_manufacturer": ("sample", "grid", "manufacturer"),
    "grid_material": ("sample", "grid", "material"),
}
"""Names in a session's `about` that OSC-EM has a place for, and the place."""
QUANTITIES = {
    "c2_aperture_um": (("instrument", "c2_aperture"), "µm", 1e-6, "m"),
    "molecular_weight_kda": (("sample", "overall_molecule", "molecular_weight"), "kDa", 1.66053906660e-24, "kg"),
    "exposure_time_s": (("acquisition", "exposure_time"), "s", 1.0, "s"),
}
"""The same for numbers: place, unit, factor to SI, SI unit."""


@dataclass(frozen=True)
class FinalMap:
    """The map that is handed on: side in px, resolution in Å, particles; the latter two None when not known."""

    side: int
    resolution: float | None
    particles: int | None


def oscem_document(
    about: Mapping[str, Any], exposures: pd.DataFrame, final: FinalMap | None, classes: Sequence[int] = ()
) -> dict[str, Any]:
    """The data set as OSC-EM names it; exposures may be empty, classes are the particles of each 2D class."""
    document: dict[str, Any] = {"acquisition": {"technique": "spa"}, "instrument": {}}
    for name, place in WORDS.items():
        if name in about:
            _put(document, place, _moment(about[name]) if name == "date" else str(about[name]))
    for name, (place, unit, factor, base) in QUANTITIES.items():
        if name in about:
            _put(document, place, _quantity(float(about[name]), unit, factor, base))
    _detector(document["acquisition"], about)
    if len(exposures):
        _optics(document, exposures)
    processing = _processing(exposures, final, classes)
    return document | ({"processing": processing} if processing else {})


def oscem_faults(document: Mapping[str, Any]) -> list[str]:
    """What the schema finds missing or wrong, a line each."""
    validator = Draft201909Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    errors = sorted(validator.iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    return [f"{'.'.join(str(part) for part in error.absolute_path) or 'document'}: {error.message}" for error in errors]


def write_oscem(path: str | os.PathLike, document: Mapping[str, Any]) -> None:
    """Write the document as JSON."""
    Path(path).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _detector(acquisition: dict[str, Any], about: Mapping[str, Any]) -> None:
    told = {key: str(about[name]) for name, key in (("detector", "name"), ("detector_mode", "mode")) if name in about}
    if told:
        acquisition["detectors"] = [told]
    if "magnification" in about:
        acquisition["nominal_magnification"] = int(about["magnification"])
    if "energy_filter_slit_ev" in about:
        width = _quantity(float(about["energy_filter_slit_ev"]), "eV", 1.602176634e-19, "J")
        model = {"model": str(about["energy_filter"])} if "energy_filter" in about else {}
        acquisition["energy_filter"] = {"used": True, "width_energy_filter": width} | model


def _optics(document: dict[str, Any], exposures: pd.DataFrame) -> None:
    first, acquisition, instrument = exposures.iloc[0], document["acquisition"], document["instrument"]
    instrument["acceleration_voltage"] = _quantity(first["voltage_kv"], "kV", 1e3, "V")
    instrument["cs"] = _quantity(first["cs_mm"], "mm", 1e-3, "m")
    acquisition["pixel_size"] = _quantity(_known(first.get("movie_pixel_size"), first["micrograph_pixel_size"]), "Å", 1e-10, "m")
    acquisition["binning_camera"] = {"height": 1, "width": 1}
    acquisition["image_size"] = {"height": int(first["height_px"]), "width": int(first["width_px"])}
    acquisition["images_generated"] = len(exposures)
    if {"dose_per_frame", "frames"} <= set(exposures.columns) and exposures["dose_per_frame"].notna().any():
        dose = float((exposures["dose_per_frame"] * exposures["frames"]).mean())
        acquisition["dose_per_movie"] = _quantity(dose, "1/Å^2", 1e20, "1/m^2")
        acquisition["frames_per_movie"] = int(exposures["frames"].median())
    if "optics_name" in exposures.columns:
        acquisition["beamtiltgroups"] = int(exposures["optics_name"].nunique())


def _processing(exposures: pd.DataFrame, final: FinalMap | None, classes: Sequence[int]) -> dict[str, Any]:
    processing: dict[str, Any] = {}
    if len(exposures):
        processing |= {"movies": _movies(exposures), "micrographs": {"number_micrographs": len(exposures)}, "ctfs": _ctfs(exposures)}
    if final is not None and final.particles:
        processing["coordinates"] = {"number_particles": final.particles}
        if len(exposures):
            processing["coordinates"] |= {
                "particles_per_micrograph": round(final.particles / len(exposures), 2),
                "num_source_micrographs": len(exposures),
            }
    if classes:
        processing["classes2D"] = {"particles_per_2Dclass": [int(count) for count in classes]}
    if final is not None:
        volume: dict[str, Any] = {"volume_type": "final volume", "size": [final.side] * 3}
        volume |= {"vol_number_particles": final.particles} if final.particles else {}
        volume |= {"vol_resolution": _value(final.resolution, "Å")} if final.resolution else {}
        processing["volumes"] = [volume]
    return {name: part for name, part in processing.items() if part}


def _movies(exposures: pd.DataFrame) -> dict[str, Any]:
    first = exposures.iloc[0]
    told: dict[str, Any] = {}
    if pd.notna(first.get("dose_per_frame")):
        told["dose_per_image"] = _value(first["dose_per_frame"], "e/Å²")
    if pd.notna(first.get("pre_exposure")):
        told["initial_dose"] = _value(first["pre_exposure"], "e/Å²")
    if isinstance(first.get("gain"), str) and first["gain"] not in ("", "None"):
        told["gain_image"] = Path(first["gain"]).name
    if "motion_total" in exposures.columns:
        thing = {"method": "firn", "output_avg_shift": _value(exposures["motion_total"].mean(), "Å")}
        thing["output_max_shift"] = _value(exposures["motion_total"].max(), "Å")
        told["descriptors"] = [{"descriptor_name": "Movie alignment", "descriptor_thing": thing}]
    return told


def _ctfs(exposures: pd.DataFrame) -> dict[str, Any]:
    told: dict[str, Any] = {"amplitude_contrast": float(exposures["amplitude_contrast"].iloc[0])}
    if {"defocus_u", "defocus_v"} <= set(exposures.columns):
        told["defocus"] = _spread((exposures["defocus_u"] + exposures["defocus_v"]) / 2, "defocus")
    if "ctf_fit_resolution" in exposures.columns:
        told["resolution"] = _spread(exposures["ctf_fit_resolution"], "resolution")
    return told


def _spread(values: pd.Series, name: str) -> dict[str, Any]:
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    found = {"min": numbers.min(), "max": numbers.max(), "avg": numbers.mean()} if len(numbers) else {}
    return {f"output_{kind}_{name}": _value(value, "Å") for kind, value in found.items()}


def _value(value: float, unit: str) -> dict[str, Any]:
    return {"value": round(float(value), 4), "unit": unit}


def _quantity(value: float, unit: str, factor: float, base: str) -> dict[str, Any]:
    return {"value": round(float(value), 6), "unit": unit, "valueSI": float(f"{float(value) * factor:.6g}"), "unitSI": base}


def _known(value: Any, other: Any) -> float:
    return float(value) if value is not None and pd.notna(value) else float(other)


def _moment(text: Any) -> str:
    """A date or a moment as the schema wants it; a date alone means its start, and no time zone UTC."""
    stamp = pd.Timestamp(str(text))
    return (stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ")


def _put(document: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for part in place[:-1]:
        document = document.setdefault(part, {})
    document[place[-1]] = value
