"""Files by which RELION's projects tell what they hold, and what reads them: for the fuzz tests and benchmarks/fuzz.py."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from firn.formats.foreign_exposures import read_foreign_exposures
from firn.formats.mrc import write_image
from firn.formats.relion_jobs import coordinate_files, find_maps, newest_jobs, read_2d_classes

PIPELINE = """
data_pipeline_processes

loop_
_rlnPipeLineProcessName #1
_rlnPipeLineProcessStatus #2
Refine3D/job001/ 2
Class3D/job002/ 1
"""
COORDINATES = """
data_coordinate_files

loop_
_rlnMicrographName #1
_rlnMicrographCoordinates #2
a.mrc beside.star
b.mrc none.star
"""
MODEL = """
data_model_classes

loop_
_rlnReferenceImage #1
_rlnClassDistribution #2
_rlnEstimatedResolution #3
000001@run_it001_classes.mrcs 0.25 10.5
000002@run_it001_classes.mrcs 0.75 inf
"""
CLASSES = "data_particles\n\nloop_\n_rlnClassNumber #1\n1\n2\n2\n"
SHARPENED = """
data_general

_rlnUnfilteredMapHalf1 beside_half1.mrc
_rlnUnfilteredMapHalf2 beside_half2.mrc
_rlnMaskName mask.mrc
"""
MICROGRAPHS = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnVoltage #2
_rlnSphericalAberration #3
_rlnAmplitudeContrast #4
_rlnMicrographPixelSize #5
1 300 2.7 0.1 1.5

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnCtfImage #4
a.mrc 1 15000 a.ctf:mrc
b.mrc 1 16000 b.ctf:mrc
"""
READS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "default_pipeline.star": (PIPELINE, lambda path: newest_jobs(path.parent)),
    "autopick.star": (COORDINATES, lambda path: coordinate_files(path.parent, path)),
    "coords_suffix_autopick.star": ("beside.star\n", lambda path: coordinate_files(path.parent, path)),
    "run_it001_model.star": (
        MODEL,
        lambda path: (find_maps(path.parent, path.name), read_2d_classes(path.parent, "run_it001_classes.mrcs")),
    ),
    "run_it001_data.star": (CLASSES, lambda path: read_2d_classes(path.parent, "run_it001_classes.mrcs")),
    "postprocess.star": (SHARPENED, lambda path: find_maps(path.parent, "postprocess.mrc")),
    "micrographs_ctf.star": (MICROGRAPHS, lambda path: read_foreign_exposures(path, path.parent, 10)),
}
"""A sound file and what reads it, by its name."""


def write_beside(path: Path, content: str) -> None:
    """A file of RELION's, with the files that it speaks of."""
    folder = path.parent
    (folder / "Refine3D/job001").mkdir(parents=True, exist_ok=True)
    for name in (
        "postprocess.mrc",
        "beside_half1.mrc",
        "beside_half2.mrc",
        "mask.mrc",
        "run_it001_classes.mrcs",
        "Refine3D/job001/run_data.star",
    ):
        (folder / name).touch()
    (folder / "beside.star").write_text(MICROGRAPHS)
    (folder / "run_it001_data.star").write_text(CLASSES)
    (folder / "run_it001_model.star").write_text(MODEL)
    for name in ("a.mrc", "b.mrc"):
        write_image(folder / name, np.ones((8, 8), dtype=np.float32), 1.5)
    path.write_text(content)
