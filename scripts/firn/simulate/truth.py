"""The truth as tables: what was put where, how far out of focus, how it moved.

Convention: coordinates are 0-based column and row in the frame of the first movie frame, which is also that of a sum aligned to
the first frame; displacements say where the specimen has moved to since then.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from firn.formats.star import read_star, write_star
from firn.simulate.motion import TERMS, Motion
from firn.simulate.session import Shot


def particle_rows(movie: str, shot: Shot) -> pd.DataFrame:
    """One row per particle of an exposure."""
    scene = shot.scene
    columns = {"x_px": scene.centres[:, 0], "y_px": scene.centres[:, 1]}
    columns |= {name: scene.angles[:, i] for i, name in enumerate(("rot", "tilt", "psi"))}
    columns |= {name: scene.defocus[:, i] for i, name in enumerate(("defocus_u", "defocus_v", "defocus_angle"))}
    return pd.DataFrame({"movie": movie, **columns, "class_number": scene.class_numbers})


def exposure_row(movie: str, shot: Shot, motion_file: str) -> dict[str, object]:
    """One row per exposure: kind, mean defocus, tilt and its defocus plane, number of particles, and its motion file."""
    u, v, angle = shot.scene.mean_defocus
    return {
        "movie": movie,
        "exposure_kind": shot.kind,
        "defocus_u": u,
        "defocus_v": v,
        "defocus_angle": angle,
        "defocus_slope_x": shot.scene.slope[0],
        "defocus_slope_y": shot.scene.slope[1],
        "specimen_tilt": shot.tilt,
        "tilt_axis": shot.tilt_axis,
        "particle_count": len(shot.scene.centres),
        "motion_star": motion_file,
    }


def write_motion(path: Path, motion: Motion) -> None:
    """Trajectory in px per frame, and the coefficients of the field on 1, u, v, u², uv, v²."""
    frames = np.arange(1, len(motion.trajectory) + 1)
    drift = pd.DataFrame({"firnFrame": frames, "firnDriftXPx": motion.trajectory[:, 0], "firnDriftYPx": motion.trajectory[:, 1]})
    field = pd.DataFrame({"firnFrame": frames})
    for axis, letter in enumerate("XY"):
        field = field.assign(**{f"firnField{letter}{term}": motion.field[:, term, axis] for term in range(TERMS)})
    write_star(path, {"drift": drift, "field": field})


def read_motion(path: Path) -> Motion:
    """The motion that write_motion wrote."""
    blocks = read_star(path)
    trajectory = blocks["drift"][["firnDriftXPx", "firnDriftYPx"]].to_numpy(dtype=np.float64)
    axes = [blocks["field"][[f"firnField{letter}{term}" for term in range(TERMS)]].to_numpy(dtype=np.float64) for letter in "XY"]
    return Motion(trajectory, np.stack(axes, axis=-1))
