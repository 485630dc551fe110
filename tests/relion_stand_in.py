"""Programs that play RELION's refinement and MPI in tests: they take the same arguments and write files of the same kinds.

The player of relion_refine begins with the files of iteration 0, from which it cannot go on, moves every particle by a degree in each iteration and puts it into the classes in turn, and writes its rows in
reverse order, as RELION writes them in an order of its own. The player of mpirun starts the program once.
"""

import sys
from pathlib import Path

from stand_in import write_program

FORMATS = Path(__file__).resolve().parent.parent / "scripts"
REFINE = """#!{python}
import os, sys
sys.path.insert(0, {formats!r})
import numpy as np, pandas as pd
from firn.formats.mrc import read_mrc, write_stack, write_volume
from firn.formats.star import read_star, write_star

words = sys.argv[1:]
if words == ["--version"]:
    print("RELION version: 0.0")
    sys.exit()
given = {{word: (words[place + 1 :] + ["--"])[0] for place, word in enumerate(words) if word.startswith("--")}}
if "--fail" in given:
    print("in: somewhere.cpp, line 1\\nERROR: \\nThe stand-in was told to fail\\n=== Backtrace ===")
    sys.exit(1)
first, root = 0, given["--o"]
if "--continue" in given:
    general = read_star(given["--continue"])["optimiser_general"].iloc[0]
    table, start = read_star(general["rlnExperimentalDataStarFile"]), general
    first, halves = int(general["rlnCurrentIteration"]) + 1, int(general["rlnDoSplitRandomHalves"])
    if first == 1:
        sys.exit("ERROR:\\ntrying to read image with empty file name!")
    classes, last, flat = (int(general[name]) for name in ("rlnNrClasses", "rlnNumberOfIterations", "rlnFlat"))
else:
    table, halves, flat = read_star(given["--i"]), int("--split_random_halves" in given), int("--ref" not in given)
    classes, last = int(given.get("--K", 1)), int(given.get("--iter", 3))
    table["particles"] = table["particles"].iloc[::-1].assign(rlnAngleRot=0.0, rlnAngleTilt=0.0, rlnAnglePsi=0.0, rlnOriginXAngst=1.0,
                                                              rlnOriginYAngst=2.0, rlnMaxValueProbDistribution=0.5)
optics, rows = table["optics"].iloc[0], table["particles"]
box, pixel = int(optics["rlnImageSize"]), float(optics["rlnImagePixelSize"])
shells = np.arange(box // 2 + 1)

def model(stem):
    names = [f"{{stem}}_class{{number:03d}}.mrc" for number in range(1, classes + 1)]
    if flat:
        images = np.arange(1, classes + 1)[:, None, None] * np.ones((box, box), np.float32)
        write_stack(f"{{stem}}_classes.mrcs", images.astype(np.float32), pixel)
        names = [f"{{number:06d}}@{{stem}}_classes.mrcs" for number in range(1, classes + 1)]
    else:
        for number, name in enumerate(names, start=1):
            write_volume(name, number + np.random.default_rng(number).normal(size=(box,) * 3).astype(np.float32), pixel)
    general = {{"rlnOriginalImageSize": [box], "rlnCurrentResolution": [20.0], "rlnCurrentImageSize": [box // 2], "rlnPixelSize": [pixel]}}
    each = pd.DataFrame({{"rlnReferenceImage": names, "rlnClassDistribution": 1 / classes, "rlnEstimatedResolution": np.inf}})
    curve = pd.DataFrame({{"rlnSpectralIndex": shells, "rlnGoldStandardFsc": np.exp(-shells / 4.0)}})
    write_star(f"{{stem}}_model.star", {{"model_general": pd.DataFrame(general), "model_classes": each, "model_class_1": curve}})
    return f"{{stem}}_model.star"

for number in range(first, last + 1):
    if number:
        print(f" CurrentResolution= {{40 - number}} Angstroms, which requires little\\n Expectation iteration {{number}} of {{last}}", flush=True)
    if os.environ.get("STOP_AT") == str(number):
        os.kill(os.getpid(), 9)
    stem = f"{{root}}_it{{number:03d}}"
    models = [model(f"{{stem}}_half{{half}}") for half in (1, 2)] if halves else [model(stem)]
    rows = rows.assign(rlnAngleRot=rows["rlnAngleRot"] + (number > 0), rlnClassNumber=np.arange(len(rows)) % 3 % classes + 1)
    write_star(f"{{stem}}_data.star", {{"optics": table["optics"], "particles": rows}})
    write_star(f"{{stem}}_sampling.star", {{"sampling_general": pd.DataFrame({{"rlnIs3DSampling": [1]}})}})
    named = dict(zip(("rlnModelStarFile", "rlnModelStarFile2"), models)) | {{"rlnExperimentalDataStarFile": f"{{stem}}_data.star"}}
    numbers = {{"rlnCurrentIteration": number, "rlnDoSplitRandomHalves": halves, "rlnNrClasses": classes, "rlnNumberOfIterations": last}}
    more = {{"rlnOrientSamplingStarFile": f"{{stem}}_sampling.star", "rlnFlat": flat, "rlnChangesOptimalClasses": 0.1}}
    write_star(f"{{stem}}_optimiser.star", {{"optimiser_general": pd.DataFrame([named | numbers | more])}})
if halves and "--auto_iter_max" not in given:
    for half in (1, 2):
        volume, _ = read_mrc(f"{{root}}_it{{last:03d}}_half1_class001.mrc")
        write_volume(f"{{root}}_half{{half}}_class001_unfil.mrc", volume + half, pixel)
    model(root)
    write_star(f"{{root}}_data.star", {{"optics": table["optics"], "particles": rows}})
"""
MPIRUN = """#!{python}
import os, pathlib, sys
pathlib.Path("mpirun.txt").write_text("\\n".join(sys.argv[1:]))
os.execv(sys.argv[3], sys.argv[3:])
"""


def install(folder: Path) -> None:
    """Put relion_refine, relion_refine_mpi and mpirun into a folder, made when missing."""
    for name, body in (("relion_refine", REFINE), ("relion_refine_mpi", REFINE), ("mpirun", MPIRUN)):
        write_program(folder / name, body.format(python=sys.executable, formats=str(FORMATS)))
