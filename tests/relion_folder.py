"""Project folders as RELION 3.1 and RELION 4 write them, with micrographs, picks, particles, classes, maps and masks of a few pixels."""

from pathlib import Path

import numpy as np
import pandas as pd

from firn.formats.mrc import write_image, write_stack, write_volume
from firn.formats.star import write_star

BOX, PIXEL = 16, 4.0
MICROGRAPHS = [f"MotionCorr/job002/Movies/grid 1/m{number}.mrc" for number in range(3)]
OPTICS = {"rlnVoltage": 300.0, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.1}
CTF = {"rlnDefocusU": [15000.0, 16000.0, 17000.0], "rlnDefocusV": [14000.0, 15500.0, 16400.0], "rlnDefocusAngle": [30.0, 40.0, 50.0]}
PROCESSES = {
    "CtfFind/job003/": 2, "AutoPick/job004/": 2, "Extract/job005/": 2, "Class3D/job006/": 2, "Refine3D/job007/": 2, "MaskCreate/job008/": 2,
    "PostProcess/job009/": 2, "Select/job010/": 3, "Class2D/job002/": 2,
}  # fmt: skip
"""Jobs, and how RELION 3.1 writes that they are finished (2) or not."""


def make_project(project: Path, version: int = 3) -> Path:
    """A project of RELION 3.1 or 4; the job Select/job010 was broken off."""
    chance = np.random.default_rng(4)
    for name in MICROGRAPHS:
        write_image(project / name, chance.normal(size=(96, 128)).astype(np.float32), PIXEL)
    optics = pd.DataFrame([{"rlnOpticsGroupName": "grid1", "rlnOpticsGroup": 1, **OPTICS, "rlnMicrographPixelSize": PIXEL}])
    table = {"rlnMicrographName": MICROGRAPHS, **CTF, "rlnCtfMaxResolution": 3.5, "rlnOpticsGroup": 1}
    table |= {"rlnCtfImage": [name.replace("MotionCorr/job002", "CtfFind/job003").replace(".mrc", ".ctf:mrc") for name in MICROGRAPHS]}
    write_star(project / "CtfFind/job003/micrographs_ctf.star", {"optics": optics, "micrographs": pd.DataFrame(table)})
    _write_picks(project, version)
    write_particles(project, "Extract/job005/particles.star")
    write_classes(project)
    write_2d_classes(project)
    write_particles(project, "Refine3D/job007/run_data.star", **poses())
    write_maps(project, "Refine3D/job007", ("run_class001", "run_half1_class001_unfil", "run_half2_class001_unfil"))
    write_volume(project / "MaskCreate/job008/mask.mrc", ball(5.0), PIXEL)
    _postprocess(project)
    (project / "Select/job010").mkdir(parents=True)
    write_particles(project, "Select/job010/particles.star")
    _write_pipeline(project, version)
    return project


def ball(radius: float) -> np.ndarray:
    """A soft ball in a box `(BOX, BOX, BOX)`."""
    z, y, x = np.indices((BOX, BOX, BOX)) - BOX // 2
    return np.clip(radius + 0.5 - np.sqrt(z**2 + y**2 + x**2), 0, 1).astype(np.float32)


def poses() -> dict[str, list[float] | list[int]]:
    """Columns that a refinement adds to the six particles."""
    return {
        "rlnAngleRot": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
        "rlnAngleTilt": [15.0, 25.0, 35.0, 45.0, 55.0, 65.0],
        "rlnAnglePsi": [-5.0, -15.0, -25.0, -35.0, -45.0, -55.0],
        "rlnOriginXAngst": [1.5, 0.0, -2.25, 0.5, 0.25, 0.125],
        "rlnOriginYAngst": [0.0, 3.125, 0.0, -0.5, 0.75, 1.0],
        "rlnRandomSubset": [1, 2, 2, 1, 2, 1],
        "rlnClassNumber": [1, 2, 2, 1, 2, 2],
    }


def write_particles(project: Path, name: str, **columns: object) -> None:
    """A table of six particles, two on each micrograph, with two optics groups and what helices need; their stacks too."""
    stacks = [f"Extract/job005/Movies/grid 1/m{number}.mrcs" for number in range(3)]
    for number, stack in enumerate(stacks):
        write_stack(project / stack, np.random.default_rng(number).normal(size=(2, BOX, BOX)).astype(np.float32), PIXEL)
    (project / "mtf.star").touch()
    group = {**OPTICS, "rlnImagePixelSize": PIXEL, "rlnImageSize": BOX, "rlnImageDimensionality": 2, "rlnMicrographPixelSize": PIXEL}
    optics = [{"rlnOpticsGroupName": f"grid{n}", "rlnOpticsGroup": n, "rlnMtfFileName": "mtf.star", "rlnBeamTiltX": 0.1 * n, "rlnBeamTiltY": -0.2,
               "rlnOddZernike": f"[0,0,{n}.5,0]", "rlnEvenZernike": "[0,1,0]", "rlnMagMat00": 1.01, "rlnMagMat01": 0.0, "rlnMagMat10": 0.0,
               "rlnMagMat11": 0.99, **group} for n in (1, 2)]  # fmt: skip
    table = {
        "rlnCoordinateX": [30.0, 60.0, 40.0, 70.0, 50.0, 80.0],
        "rlnCoordinateY": [40.0, 50.0, 45.0, 55.0, 42.0, 52.0],
        "rlnImageName": [f"{number % 2 + 1:06d}@{stacks[number // 2]}" for number in range(6)],
        "rlnMicrographName": [MICROGRAPHS[number // 2] for number in range(6)],
        **{label: np.repeat(values, 2) for label, values in CTF.items()},
        "rlnPhaseShift": 90.0,
        "rlnHelicalTubeID": [1, 1, 2, 2, 1, 1],
        "rlnAnglePsiFlipRatio": 0.5,
        "rlnHelicalTrackLengthAngst": [0.0, 47.5, 0.0, 47.5, 0.0, 47.5],
        "rlnOpticsGroup": [1, 1, 2, 2, 1, 1],
        **columns,
    }
    write_star(project / name, {"optics": pd.DataFrame(optics), "particles": pd.DataFrame(table)})


def write_classes(project: Path) -> None:
    """Two iterations of a classification into three classes, of which the second is the largest."""
    for iteration, folder in ((2, "Class3D/job006"), (3, "Class3D/job006")):
        names = [f"{folder}/run_it{iteration:03d}_class{number:03d}.mrc" for number in (1, 2, 3)]
        for number, name in enumerate(names, start=1):
            write_volume(project / name, ball(2.0 + number), PIXEL)
        model = pd.DataFrame({"rlnReferenceImage": names, "rlnClassDistribution": [0.3, 0.6, 0.1]})
        write_star(project / f"{folder}/run_it{iteration:03d}_model.star", {"model_classes": model})
        write_particles(project, f"{folder}/run_it{iteration:03d}_data.star", **poses())


def write_2d_classes(project: Path) -> None:
    """A 2D classification whose second class is the largest, and whose third is empty."""
    folder = "Class2D/job002"
    stack = f"{folder}/run_it025_classes.mrcs"
    write_stack(project / stack, np.stack([ball(radius).sum(axis=0) for radius in (3.0, 4.0, 5.0)]), PIXEL)
    names = [f"{number:06d}@{stack}" for number in (1, 2, 3)]
    model = {"rlnReferenceImage": names, "rlnClassDistribution": [0.3, 0.7, 0.0], "rlnEstimatedResolution": [12.5, 10.0, np.inf]}
    write_star(project / f"{folder}/run_it025_model.star", {"model_classes": pd.DataFrame(model)})
    write_particles(project, f"{folder}/run_it025_data.star", **poses())


def write_maps(project: Path, folder: str, names: tuple[str, ...]) -> None:
    """Maps that differ by their noise."""
    for seed, name in enumerate(names):
        write_volume(
            project / folder / f"{name}.mrc", ball(4.0) + np.random.default_rng(seed).normal(0, 0.01, (BOX,) * 3).astype(np.float32), PIXEL
        )


def _write_picks(project: Path, version: int) -> None:
    files = [name.replace("MotionCorr/job002", "AutoPick/job004").replace(".mrc", "_autopick.star") for name in MICROGRAPHS[:2]]
    for number, name in enumerate(files):
        picks = {
            "rlnCoordinateX": [30.0, 60.5],
            "rlnCoordinateY": [40.0, 50.0],
            "rlnAutopickFigureOfMerit": [0.5, 0.25 + number],
            "rlnAnglePsi": 12.5,
        }
        write_star(project / name, {"": pd.DataFrame(picks)})
    if version == 3:
        (project / "AutoPick/job004/coords_suffix_autopick.star").write_text("CtfFind/job003/micrographs_ctf.star\n")
    else:
        table = pd.DataFrame({"rlnMicrographName": MICROGRAPHS[:2], "rlnMicrographCoordinates": files})
        write_star(project / "AutoPick/job004/autopick.star", {"coordinate_files": table})


def _postprocess(project: Path) -> None:
    write_maps(project, "PostProcess/job009", ("postprocess", "postprocess_masked"))
    general = {f"rlnUnfilteredMapHalf{half}": f"Refine3D/job007/run_half{half}_class001_unfil.mrc" for half in (1, 2)}
    write_star(
        project / "PostProcess/job009/postprocess.star",
        {"general": pd.DataFrame([general | {"rlnMaskName": "MaskCreate/job008/mask.mrc"}])},
    )


def _write_pipeline(project: Path, version: int) -> None:
    table = pd.DataFrame({"rlnPipeLineProcessName": list(PROCESSES)})
    if version == 3:
        table = table.assign(rlnPipeLineProcessAlias="None", rlnPipeLineProcessType=0, rlnPipeLineProcessStatus=list(PROCESSES.values()))
    else:
        status = ["Succeeded" if value == 2 else "Failed" for value in PROCESSES.values()]
        table = table.assign(rlnPipeLineProcessTypeLabel="relion.any", rlnPipeLineProcessStatusLabel=status)
    write_star(project / "default_pipeline.star", {"pipeline_processes": table})
