"""Motion STAR of one movie: what RELION needs to polish, and firn's own field so that the same shifts can be applied again.

Convention: shifts in pixels of the original movie that move a frame onto the first one, as RELION stores them; frames from 1.
Local shifts are written twice: as RELION's polynomial (version 1: cubic in frames since the first, quadratic in x and y from
-1/2 to 1/2) fitted to the field, and exactly, as the coefficients of the cubic B-spline in time, y and x over [0, 1]^3 in Å.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from firn.formats.compressed import no_damage
from firn.formats.star import read_star, write_star


@dataclass(frozen=True)
class MovieInfo:
    """What the STAR says of the movie: path, gain path or None, size, first and number of frames used, Å, e/Å² and kV."""

    movie: str
    gain: str | None
    width: int
    height: int
    frames: int
    start_frame: int
    binning: float
    pixel_size: float
    dose_per_frame: float
    pre_exposure: float
    voltage_kv: float


@dataclass(frozen=True)
class SplineField:
    """Cubic B-spline of the local shifts: coefficients `(ct, cy, cx, 2)` yx in Å, times `(f,)` of the frames in [0, 1]."""

    coefficients: np.ndarray
    times: np.ndarray


def write_motion(
    path: str | os.PathLike,
    info: MovieInfo,
    shifts: np.ndarray,
    field: SplineField | None,
    local: np.ndarray | None,
    model: np.ndarray | None = None,
    more: Mapping[str, pd.DataFrame] | None = None,
) -> None:
    """Write a motion STAR. more: further blocks, as another program wrote them.

    shifts: global, `(f, 2)` yx in Å. local: the field's shifts `(f, 9, 9, 2)` yx in Å
    on a raster of rows and columns from 0 to 1, from which RELION's polynomial is fitted; model: the polynomial itself, where it is known.
    """
    if field is not None and local is not None:
        model = fit_polynomial(local / info.pixel_size)
    blocks = {"general": _general(info, model is not None), "global_shift": _global_block(info, shifts)}
    if model is not None:
        blocks["local_motion_model"] = pd.DataFrame({"rlnMotionModelCoeffsIdx": np.arange(len(model)), "rlnMotionModelCoeff": model})
    if field is not None:
        blocks["firn_field"] = _field_block(field.coefficients)
        blocks["firn_times"] = pd.DataFrame(
            {"rlnMicrographFrameNumber": blocks["global_shift"]["rlnMicrographFrameNumber"], "firnSplineTime": field.times}
        )
    write_star(path, blocks | dict(more or {}))


def read_motion(path: str | os.PathLike) -> tuple[np.ndarray, SplineField | None, float]:
    """(global shifts `(f, 2)` yx in Å, local field or None, pixel size in Å) of a motion STAR; raises InputError when it is none or damaged."""
    blocks = read_star(path)
    with no_damage(path, "motion of a movie"):
        pixel_size = float(blocks["general"]["rlnMicrographOriginalPixelSize"].iloc[0])
        shifts = blocks["global_shift"][["rlnMicrographShiftY", "rlnMicrographShiftX"]].to_numpy(dtype=np.float64) * pixel_size
        if not (pixel_size > 0 and len(shifts) and np.isfinite(shifts).all()):
            raise ValueError("it has no shifts that are numbers")
        return shifts, _read_field(blocks), pixel_size


def _read_field(blocks: dict[str, pd.DataFrame]) -> SplineField | None:
    if "firn_field" not in blocks:
        return None
    knots = blocks["firn_field"]
    counts = [int(knots[label].max()) for label in ("firnKnotTime", "firnKnotY", "firnKnotX")]
    coefficients = knots[["firnShiftYAngst", "firnShiftXAngst"]].to_numpy(dtype=np.float64).reshape(*counts, 2)
    times = blocks["firn_times"]["firnSplineTime"].to_numpy(dtype=np.float64)
    if not (np.isfinite(coefficients).all() and np.isfinite(times).all()):
        raise ValueError("its field has values that are no numbers")
    return SplineField(coefficients, times)


def first_frame(path: str | os.PathLike) -> int:
    """Number of the first frame that a motion STAR tells of, counted from 0; errors as read_motion."""
    blocks = read_star(path)
    with no_damage(path, "motion of a movie"):
        return int(blocks["global_shift"]["rlnMicrographFrameNumber"].iloc[0]) - 1


def polynomial_terms(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """RELION's 18 terms `(..., 18)`: (z, z², z³) times each of 1, x, x², y, y², xy; z frames since the first, x and y in [-1/2, 1/2]."""
    space = np.stack((np.ones_like(x), x, x**2, y, y**2, x * y), axis=-1)
    time = np.stack((z, z**2, z**3), axis=-1)
    return (space[..., :, None] * time[..., None, :]).reshape(*np.broadcast(z, y, x).shape, 18)


def fit_polynomial(local: np.ndarray) -> np.ndarray:
    """RELION's 36 coefficients (x, then y) nearest to shifts `(f, h, w, 2)` yx in pixels on a raster from 0 to 1."""
    frames, height, width, _ = local.shape
    axes = (np.arange(frames, dtype=float), np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width))
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return fit_points(z, y, x, local)


def fit_points(z: np.ndarray, y: np.ndarray, x: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """RELION's 36 coefficients (x, then y) nearest to shifts `(..., 2)` yx in pixels at z, y and x `(...,)` as polynomial_terms takes them."""
    terms = polynomial_terms(z, y, x).reshape(-1, 18)
    scale = np.maximum(np.abs(terms).max(axis=0), np.finfo(float).tiny)
    solution, *_ = np.linalg.lstsq(terms / scale, shifts.reshape(-1, 2), rcond=1e-10)
    return np.concatenate((solution[:, 1] / scale, solution[:, 0] / scale))


def _general(info: MovieInfo, local: bool) -> pd.DataFrame:
    values: dict[str, object] = {
        "rlnImageSizeX": info.width,
        "rlnImageSizeY": info.height,
        "rlnImageSizeZ": info.frames,
        "rlnMicrographMovieName": info.movie,
        "rlnMicrographBinning": info.binning,
        "rlnMicrographOriginalPixelSize": info.pixel_size,
        "rlnMicrographDoseRate": info.dose_per_frame,
        "rlnMicrographPreExposure": info.pre_exposure,
        "rlnVoltage": info.voltage_kv,
        "rlnMicrographStartFrame": info.start_frame,
        "rlnMotionModelVersion": int(local),
    }
    if info.gain is not None:
        values["rlnMicrographGainName"] = info.gain
    return pd.DataFrame([values])


def _global_block(info: MovieInfo, shifts: np.ndarray) -> pd.DataFrame:
    pixels = shifts / info.pixel_size
    numbers = np.arange(info.start_frame, info.start_frame + len(pixels))
    return pd.DataFrame({"rlnMicrographFrameNumber": numbers, "rlnMicrographShiftX": pixels[:, 1], "rlnMicrographShiftY": pixels[:, 0]})


def _field_block(coefficients: np.ndarray) -> pd.DataFrame:
    time, y, x = (index.ravel() + 1 for index in np.indices(coefficients.shape[:3]))
    values = coefficients.reshape(-1, 2)
    return pd.DataFrame(
        {"firnKnotTime": time, "firnKnotY": y, "firnKnotX": x, "firnShiftYAngst": values[:, 0], "firnShiftXAngst": values[:, 1]}
    )
