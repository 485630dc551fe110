"""CryoSPARC's tables of particles and exposures: `.cs` files (one numpy structured array) and `.csg` files (which columns belong to a group of results).

Conventions, as pyem's converter (https://github.com/asarnow/pyem) reads them: `pose` is the rotation vector of the matrix that takes image
into volume coordinates, xyz, in radians; `shift` is RELION's origin in pixels of `psize_A`; `alignments2D/pose` is psi in radians;
`split` and `class` count from 0; a particle's place is a fraction of the micrograph's width and height, whose `shape` is (height, width);
`blob/idx` counts from 0; `blob/sign` is 1 for white protein, -1 for dark. Numbers are of single precision.
Columns of firn's that CryoSPARC has no field for are kept in fields `firn/<column>`, so that nothing is lost on the way back.
"""

import hashlib
import os
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from firn.errors import InputError
from firn.formats.compressed import no_damage
from firn.formats.cryosparc_aberrations import COLUMN as ABERRATIONS
from firn.formats.cryosparc_aberrations import aberration_fields, kept_column
from firn.formats.tables import join_image_names, split_image_names
from firn.formats.yaml_text import read_yaml

OWN = "firn/"
SIGN = "image_sign"
"""Column of a table that is read: 1 for white protein, -1 for dark; it is left out where all is white."""
CTF = {
    "voltage_kv": ("ctf/accel_kv", 1.0),
    "cs_mm": ("ctf/cs_mm", 1.0),
    "amplitude_contrast": ("ctf/amp_contrast", 1.0),
    "defocus_u": ("ctf/df1_A", 1.0),
    "defocus_v": ("ctf/df2_A", 1.0),
    "defocus_angle": ("ctf/df_angle_rad", np.pi / 180),
    "phase_shift": ("ctf/phase_shift_rad", np.pi / 180),
}
"""firn's column: field, and the factor to its unit."""
COUNTED = {"half": "split", "class_number": "class"}
"""Columns that count from 1, and CryoSPARC's fields, which count from 0."""
NEUTRAL_0 = ("error", "error_min", "resid_pow", "slice_pow", "image_pow", "cross_cor", "weight", "pose_ess", "shift_ess")
NEUTRAL_1 = ("alpha", "class_ess")
"""Fields of an alignment that CryoSPARC expects and firn has no numbers for."""
STREAMS, NUMPY = (b"\x94CSDAT", b"\x95CSDAT"), b"\x93NUMPY"
LONGEST_HEADER = 50_000
SLOTS = ("blob", "ctf", "location", "alignments3D", "alignments2D", "micrograph_blob", "micrograph_blob_non_dw", "mscope_params")
Fields = dict[str, np.ndarray]


def write_cs(path: str | os.PathLike, fields: Mapping[str, np.ndarray]) -> None:
    """Write fields of one length, vectors as `(n, k)`, as a `.cs` file; it appears whole or not at all."""
    count = len(next(iter(fields.values())))
    layout = [(name, values.dtype, values.shape[1:]) for name, values in fields.items()]
    rows = np.zeros(count, dtype=layout)
    for name, values in fields.items():
        rows[name] = values
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("wb") as stream:
        np.save(stream, rows, allow_pickle=False)
    os.replace(partial, path)


def read_cs(path: str | os.PathLike) -> Fields:
    """Fields of a `.cs` file; raises InputError when it is missing, damaged, or of the streaming form."""
    with no_damage(path, "a .cs file"):
        with Path(path).open("rb") as stream:
            start = stream.read(len(NUMPY))
        if start in STREAMS:
            raise InputError(f"{path}: is of CryoSPARC's streaming form; save it as a plain .cs file with cryosparc-tools")
        if start != NUMPY:
            raise ValueError("it does not begin as numpy's arrays do")
        rows = _load_rows(path)
    if rows.dtype.names is None or rows.ndim != 1:
        raise InputError(f"{path}: is a plain numpy array, but a .cs file holds named fields")
    return {name: rows[name] for name in rows.dtype.names}


def _load_rows(path: str | os.PathLike) -> np.ndarray:
    """All rows; the file is mapped first, which fails when it is shorter than its header says, before memory is taken."""
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=LONGEST_HEADER))
    except (SyntaxError, tokenize.TokenError) as error:
        raise ValueError("its header makes no sense") from error


def read_csg(path: str | os.PathLike) -> Fields:
    """Fields of all files that a `.csg` file names, matched by uid; raises InputError when it is damaged or a file is missing."""
    content = read_yaml(path, "a .csg file")
    with no_damage(path, "a .csg file"):
        names = list(dict.fromkeys(str(entry["metafile"]).removeprefix(">") for entry in content["results"].values()))
    if not names:
        raise InputError(f"{path}: names no file of results")
    fields, *others = [read_cs(Path(path).parent / name) for name in names]
    for name, other in zip(names[1:], others, strict=True):
        fields = join_cs(fields, other, Path(path).parent / name)
    return fields


def join_cs(first: Fields, other: Fields, path: str | os.PathLike) -> Fields:
    """The fields of the first file with those that only a passthrough file has, matched by uid; raises InputError when one lacks a particle."""
    with no_damage(path, "a table of particles with uids of their own"):
        places = pd.Series(np.arange(len(other["uid"])), index=other["uid"])
        found = places.reindex(first["uid"])
    if found.isna().any():
        raise InputError(f"{path}: lacks {int(found.isna().sum())} of {len(found)} particles")
    rows = found.to_numpy(dtype=np.int64)
    return first | {name: values[rows] for name, values in other.items() if name not in first}


def particles_to_cs(table: pd.DataFrame, shapes: Mapping[str, tuple[int, int]]) -> Fields:
    """Fields of a particle table with firn's names.

    shapes: (height, width) of micrographs in pixels; the places of particles on others are kept as firn's own columns.
    """
    fields: Fields = {"uid": _uids(table)}
    done = {"image", "image_pixel_size", "box_px", "dimensionality", *CTF, ABERRATIONS}
    fields |= _blob_fields(table) | _ctf_fields(table)
    if {"micrograph", "x_px", "y_px"} <= set(table.columns) and set(table["micrograph"]) <= set(shapes):
        fields |= _location_fields(table, shapes)
        done |= {"micrograph", "x_px", "y_px"}
    if "psi" in table.columns:
        slot = "alignments3D" if "rot" in table.columns else "alignments2D"
        fields |= _alignment_fields(table, slot)
        done |= {"rot", "tilt", "psi", "origin_x", "origin_y", "class_probability", *_counted(table).values()}
    return fields | {OWN + name: _plain(table[name]) for name in table.columns if name not in done}


def particles_from_cs(fields: Fields, path: str | os.PathLike) -> pd.DataFrame:
    """A particle table with firn's names, with a column SIGN where protein is dark; fields that firn has no use for are left out.

    Raises InputError when images or CTF are missing.
    """
    missing = [
        name for name in ("uid", "blob/path", "blob/idx", "blob/psize_A", *(field for field, _ in CTF.values())) if name not in fields
    ]
    if missing:
        raise InputError(f"{path}: has no field {missing[0]}; give the passthrough file of the same job too")
    with no_damage(path, "a .cs file of particles"), np.errstate(invalid="ignore", over="ignore"):
        return _particle_columns(fields)


def _particle_columns(fields: Fields) -> pd.DataFrame:
    stacks = pd.Series(_text(fields["blob/path"])).str.removeprefix(">").to_numpy()
    names = join_image_names(fields["blob/idx"], stacks)
    columns: dict[str, Any] = {"image": names, "image_pixel_size": _rounded(fields["blob/psize_A"])}
    columns |= {name: _rounded(fields[field] / factor) for name, (field, factor) in CTF.items()}
    columns |= _location_columns(fields) | _alignment_columns(fields) | kept_column(fields)
    own = {name.removeprefix(OWN): values for name, values in fields.items() if name.startswith(OWN)}
    columns |= {name: _text(values) if values.dtype.kind in "SU" else values for name, values in own.items()}
    sign = np.sign(fields["blob/sign"]).astype(int) if "blob/sign" in fields else np.ones(len(names), dtype=int)
    columns |= {SIGN: sign} if (sign < 0).any() else {}
    return pd.DataFrame(columns).assign(cryosparc_id=fields["uid"].astype(str))


def rotation_vectors(angles: np.ndarray) -> np.ndarray:
    """Vectors `(n, 3)` xyz along the axis and as long as the angle in radians, of (rot, tilt, psi) `(n, 3)` in degrees, by quaternions."""
    rot, tilt, psi = np.deg2rad(np.asarray(angles, dtype=np.float64)).T / 2
    real = np.cos(tilt) * np.cos(rot + psi)
    axis = np.stack((-np.sin(tilt) * np.sin(rot - psi), np.sin(tilt) * np.cos(rot - psi), np.cos(tilt) * np.sin(rot + psi)), axis=1)
    axis = np.where(real < 0, -1.0, 1.0)[:, None] * axis
    size = np.linalg.norm(axis, axis=1)
    return axis * (2 * np.arctan2(size, np.abs(real)) / np.maximum(size, 1e-300))[:, None]


def euler_angles(vectors: np.ndarray) -> np.ndarray:
    """(rot, tilt, psi) `(n, 3)` in degrees, tilt in [0, 180], of rotation vectors `(n, 3)` xyz in radians."""
    size = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors * (np.sin(size / 2) / np.maximum(size, 1e-300))[:, None]).T
    real = np.cos(size / 2)
    half_sum, half_difference = np.arctan2(z, real), np.arctan2(-x, y)
    tilt = 2 * np.arctan2(np.hypot(x, y), np.hypot(real, z))
    angles = np.rad2deg(np.stack((half_sum + half_difference, tilt, half_sum - half_difference), axis=1))
    return np.where(angles > 180, angles - 360, np.where(angles < -180, angles + 360, angles))


def exposures_to_cs(table: pd.DataFrame, shapes: Mapping[str, tuple[int, int]]) -> Fields:
    """Fields of a table of exposures with firn's names; their uids are those that their particles name. shapes: as of particles_to_cs."""
    count = len(table)
    fields: Fields = {"uid": np.array([_hash(name) for name in table["micrograph"]], dtype=np.uint64)}
    done = {"micrograph", "micrograph_plain", "micrograph_pixel_size", *CTF}
    for column, slot in (("micrograph", "micrograph_blob"), ("micrograph_plain", "micrograph_blob_non_dw")):
        if column in table.columns and set(table[column]) <= set(shapes):
            fields |= {f"{slot}/{name}": values for name, values in _image_fields(table, column, shapes).items()}
    doses = table["dose_per_frame"] * table["frames"] if {"dose_per_frame", "frames"} <= set(table.columns) else pd.Series(np.zeros(count))
    scope = {"accel_kv": table["voltage_kv"], "cs_mm": table["cs_mm"], "total_dose_e_per_A2": doses}
    fields |= {f"mscope_params/{name}": values.to_numpy(dtype=np.float32) for name, values in scope.items()}
    fields |= {f"mscope_params/{name}": np.zeros(count, dtype=np.uint32) for name in ("phase_plate", "neg_stain")}
    if {"defocus_u", "defocus_v", "defocus_angle"} <= set(table.columns):
        fields |= _ctf_fields(table)
        quality = {"ctf_score": "ctf/cross_corr_ctffind4", "ctf_fit_resolution": "ctf/ctf_fit_to_A"}
        fields |= {field: table[name].to_numpy(dtype=np.float32) for name, field in quality.items() if name in table.columns}
    return fields | {OWN + name: _plain(table[name]) for name in table.columns if name not in done}


def write_group(path: str | os.PathLike, name: str, file: str, fields: Fields) -> None:
    """The `.csg` file by which CryoSPARC imports a table as a group of results."""
    kind = "exposure" if "micrograph_blob/path" in fields else "particle"
    slots = [slot for slot in SLOTS if any(field.startswith(f"{slot}/") for field in fields)]
    types = {slot: f"{kind}.{slot.removesuffix('_non_dw')}" for slot in slots}
    results = {slot: {"metafile": f">{file}", "num_items": len(fields["uid"]), "type": types[slot]} for slot in slots}
    group = {"description": "", "name": name, "title": name, "type": kind}
    Path(path).write_text(yaml.safe_dump({"group": group, "results": results, "version": "v4.0.0"}, sort_keys=False), encoding="utf-8")


def _uids(table: pd.DataFrame) -> np.ndarray:
    """CryoSPARC's own ids where the particles came from it, else 64 bits of each particle's identity."""
    if "cryosparc_id" in table.columns:
        return table["cryosparc_id"].astype(str).astype(np.uint64).to_numpy()
    names = table["particle_id"] if "particle_id" in table.columns else table["image"]
    return np.array([_hash(name) for name in names], dtype=np.uint64)


def _hash(name: object) -> int:
    return int.from_bytes(hashlib.blake2b(str(name).encode(), digest_size=8).digest(), "little")


def _blob_fields(table: pd.DataFrame) -> Fields:
    sections, stacks = split_image_names(table["image"])
    box = table["box_px"].to_numpy(dtype=np.uint32)
    return {
        "blob/path": _paths(stacks),
        "blob/idx": sections.astype(np.uint32),
        "blob/shape": np.stack((box, box), axis=1),
        "blob/psize_A": table["image_pixel_size"].to_numpy(dtype=np.float32),
        "blob/sign": np.ones(len(table), dtype=np.float32),
        "blob/import_sig": np.zeros(len(table), dtype=np.uint64),
    }


def _image_fields(table: pd.DataFrame, column: str, shapes: Mapping[str, tuple[int, int]]) -> Fields:
    count = len(table)
    return {
        "path": _paths(table[column]),
        "idx": np.zeros(count, dtype=np.uint32),
        "shape": np.array([shapes[name] for name in table[column]], dtype=np.uint32),
        "psize_A": table["micrograph_pixel_size"].to_numpy(dtype=np.float32),
        "format": np.array([b"MRC/1"] * count),
        "is_background_subtracted": np.zeros(count, dtype=np.uint32),
        "import_sig": np.zeros(count, dtype=np.uint64),
    }


def _ctf_fields(table: pd.DataFrame) -> Fields:
    count = len(table)
    groups = table["optics_name"] if "optics_name" in table.columns else pd.Series(["1"] * count)
    given = table.assign(phase_shift=table["phase_shift"] if "phase_shift" in table.columns else 0.0)
    named = {field: (given[name] * factor).to_numpy(dtype=np.float32) for name, (field, factor) in CTF.items()}
    empty = {name: np.zeros(count, dtype=np.float32) for name in ("ctf/scale_const", "ctf/bfactor")} | aberration_fields(table)
    exposure = {"ctf/type": np.array([b"imported"] * count), "ctf/exp_group_id": (pd.factorize(groups)[0] + 1).astype(np.uint32)}
    return exposure | named | {"ctf/scale": np.ones(count, dtype=np.float32)} | empty


def _location_fields(table: pd.DataFrame, shapes: Mapping[str, tuple[int, int]]) -> Fields:
    shape = np.array([shapes[name] for name in table["micrograph"]], dtype=np.uint32)
    return {
        "location/micrograph_uid": np.array([_hash(name) for name in table["micrograph"]], dtype=np.uint64),
        "location/micrograph_path": _paths(table["micrograph"]),
        "location/micrograph_shape": shape,
        "location/center_x_frac": (table["x_px"] / shape[:, 1]).to_numpy(dtype=np.float32),
        "location/center_y_frac": (table["y_px"] / shape[:, 0]).to_numpy(dtype=np.float32),
        "location/exp_group_id": np.ones(len(table), dtype=np.uint32),
    }


def _alignment_fields(table: pd.DataFrame, slot: str) -> Fields:
    count, pixel_size = len(table), table["image_pixel_size"].to_numpy()
    shifts = [table[name].to_numpy() / pixel_size if name in table.columns else np.zeros(count) for name in ("origin_x", "origin_y")]
    is_3d = slot == "alignments3D"
    pose = rotation_vectors(table[["rot", "tilt", "psi"]].to_numpy()) if is_3d else np.deg2rad(table["psi"].to_numpy())
    found = dict.fromkeys(NEUTRAL_0, np.zeros(count)) | dict.fromkeys(NEUTRAL_1, np.ones(count))
    found |= {"pose": pose, "shift": np.stack(shifts, axis=1), "psize_A": pixel_size}
    if "class_probability" in table.columns:
        found["class_posterior"] = table["class_probability"].to_numpy()
    fields = {f"{slot}/{name}": values.astype(np.float32) for name, values in found.items()}
    return fields | {f"{slot}/{field}": (table[name].to_numpy() - 1).astype(np.uint32) for field, name in _counted(table).items()}


def _counted(table: pd.DataFrame) -> dict[str, str]:
    """CryoSPARC's fields that count from 0 and firn's columns for them, which all particles have."""
    return {field: name for name, field in COUNTED.items() if name in table.columns and table[name].notna().all()}


def _location_columns(fields: Fields) -> dict[str, Any]:
    if not {"location/micrograph_path", "location/micrograph_shape", "location/center_x_frac", "location/center_y_frac"} <= set(fields):
        return {}
    shape = fields["location/micrograph_shape"]
    found: dict[str, Any] = {"micrograph": pd.Series(_text(fields["location/micrograph_path"])).str.removeprefix(">").to_numpy()}
    for name, place, axis in (("x_px", "center_x_frac", 1), ("y_px", "center_y_frac", 0)):
        found[name] = np.round(fields[f"location/{place}"].astype(np.float64) * shape[:, axis], 3)
    return found


def _alignment_columns(fields: Fields) -> dict[str, Any]:
    slot = next((slot for slot in ("alignments3D", "alignments2D") if f"{slot}/pose" in fields), None)
    if slot is None:
        return {}
    pose, shift = fields[f"{slot}/pose"].astype(np.float64), fields[f"{slot}/shift"].astype(np.float64)
    angles = dict(zip(("rot", "tilt", "psi"), euler_angles(pose).T, strict=True)) if slot == "alignments3D" else {"psi": np.rad2deg(pose)}
    pixel_size = fields.get(f"{slot}/psize_A", fields["blob/psize_A"]).astype(np.float64)
    found = angles | {"origin_x": shift[:, 0] * pixel_size, "origin_y": shift[:, 1] * pixel_size}
    for name, field in COUNTED.items():
        if f"{slot}/{field}" in fields:
            found[name] = fields[f"{slot}/{field}"].astype(np.int64) + 1
    if f"{slot}/class_posterior" in fields:
        found["class_probability"] = _rounded(fields[f"{slot}/class_posterior"])
    return found


def _paths(names: Iterable[object]) -> np.ndarray:
    """Names of files, one that begins with CryoSPARC's mark of its own files behind another of them."""
    return np.array([(">" if str(name).startswith(">") else "").encode() + str(name).encode() for name in names])


def _plain(column: pd.Series) -> np.ndarray:
    if column.dtype.kind in "iufb":
        return column.to_numpy(dtype=np.int64 if column.dtype.kind in "iub" else np.float64)
    return np.array([str(value).encode() for value in column])


def _text(values: np.ndarray) -> np.ndarray:
    return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in values], dtype=object)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Single precision to its seven digits, so that 0.1 is 0.1 again."""
    exact = values.astype(np.float64)
    power = 10.0 ** (6 - np.floor(np.log10(np.maximum(np.abs(exact), 1e-30))))
    return np.asarray(np.round(exact * power) / power)
