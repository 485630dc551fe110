"""The CTF by Gctf: what it is told, what is read back, and what is said when it is missing or fails. A stand-in plays its part."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import gctf
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from stand_in import write_program

STAND_IN = """#!{python}
import os, sys, time
import mrcfile, numpy

*options, image = sys.argv[1:]
if options:
    given = dict(zip(options[::2], options[1::2], strict=True))
    level = mrcfile.open(image).data[0, 0]
    if level == 5:
        sys.exit("CUDA error: no kernel image is available for execution on the device")
    stem = os.path.splitext(image)[0]
    if level == 7:
        print("waiting", flush=True)
        time.sleep(600)
    phase = float(given["--phase_shift_H"]) if "--phase_shift_H" in given else None
    if level != 6:
        with open(stem + given["--logsuffix"], "w") as stream:
            stream.write("CS[mm], HT[kV], ac, XMAG, DStep[um]\\n  2.7 300.0 0.10 93333.3 14.0\\n")
            stream.write("Defocus_U   Defocus_V       Angle         CCC\\n 19000.00 20000.00 10.00 0.1\\n")
            stream.write(" 34078.14    34476.72      65.31 " + ("" if phase is None else "%.2f " % phase) + "   0.115909  Final Values\\n")
            if given["--do_EPA"] == "1":
                stream.write("\\x1b[32mResolution limit estimated by EPA: 4.355 \\x1b[0m\\n")
        with mrcfile.new(stem + ".ctf") as mrc:
            mrc.set_data(numpy.random.default_rng(1).normal(size=(64, 64)).astype(numpy.float32))
"""
HOME = Path("results/ctf/batches/0001")
PIXEL = 1.5
LINE = (
    "--apix 1.5 --kV 300 --cs 2.7 --ac 0.1 --defL 1000 --defH 40000 --defS 500 --astm 1000 --resL 25 --resH 4"
    " --bfac 150 --boxsize 1024 --do_EPA 1 --logsuffix _gctf.log"
)


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder with the program on the PATH, under the name that its makers give it."""
    monkeypatch.chdir(tmp_path)
    path = write_program(Path("bin/Gctf-v1.18_b2_sm60_cu9.1"), STAND_IN.format(python=sys.executable))
    Path("bin/Gctf").symlink_to(path.name)
    monkeypatch.setenv("PATH", str(path.parent))


def micrograph(name: str, first: float = 0.0) -> str:
    """A micrograph whose first pixel tells the stand-in what to do."""
    image = np.random.default_rng(1).normal(size=(160, 192)).astype(np.float32)
    image[0, 0] = first
    write_image(f"mics/{name}.mrc", image, PIXEL)
    return f"mics/{name}.mrc"


def exposures(micrographs: list[str], **columns: Any) -> None:
    table = pd.DataFrame({"exposure_id": [f"e{number}" for number in range(len(micrographs))], "batch": "0001", "micrograph": micrographs})
    table = table.assign(micrograph_pixel_size=PIXEL, voltage_kv=300.0, cs_mm=2.7, amplitude_contrast=0.1, **columns)
    write_table("results/motion/batches/0001/exposures.star", table, "exposures")


def run(**settings: Any) -> Job:
    inputs = {"exposures": ["results/motion/batches/0001"]}
    with open_job(gctf.Params, {"type": "gctf", "exposures": "motion"} | settings, inputs, HOME, "ctf", "0001", threads=1) as job:
        gctf.run(job)
    return job


def fitted() -> pd.DataFrame:
    return read_table(HOME / "exposures.star", "exposures")


def line() -> str:
    (arguments,) = json.loads((HOME / "gctf.json").read_text())["arguments"]
    return " ".join(arguments)


def test_fits_come_back_with_the_greater_defocus_first() -> None:
    exposures([micrograph("a"), micrograph("b")])
    job = run(plots=1)
    row = fitted().iloc[0]
    assert (row["defocus_u"], row["defocus_v"], row["defocus_angle"]) == pytest.approx((34476.72, 34078.14, 155.31))
    assert (row["phase_shift"], row["ctf_score"], row["ctf_fit_resolution"]) == pytest.approx((0, 0.115909, 4.355))
    assert line() == f"{LINE} --gid 0 image.mrc"
    assert json.loads((HOME / "gctf.json").read_text())["version"] == "1.18"
    assert sorted(path.name for path in HOME.iterdir()) == ["exposures.star", "figures", "gctf.json", "job.json"]
    assert [path.name for path in (HOME / "figures").iterdir()] == ["ctf_e0.png"]
    assert not job.warnings


def test_phase_plates_refinement_and_further_arguments_stand_in_the_line() -> None:
    exposures([micrograph("a")])
    run(
        fit_phase_shift=True,
        max_phase_shift=150,
        min_resolution=80,
        max_resolution=2,
        high_resolution_refinement=True,
        arguments=["--convsize", "85"],
    )
    changed = LINE.replace("--resL 25 --resH 4", "--resL 50 --resH 3")
    phases = "--phase_shift_L 0 --phase_shift_H 150 --phase_shift_S 10"
    assert line() == f"{changed} {phases} --do_Hres_ref 1 --Href_resL 15 --Href_resH 3 --gid 0 --convsize 85 image.mrc"
    assert fitted()["phase_shift"].iloc[0] == 150


def test_sums_without_dose_weights_are_fitted_and_a_lack_of_them_is_told() -> None:
    exposures([micrograph("weighted", 5.0)], micrograph_plain=micrograph("plain"), motion_star="m.star")
    assert not run().warnings
    exposures([micrograph("weighted")], motion_star="m.star")
    assert "no sums without dose weights" in run().warnings[0]


def test_without_the_average_no_resolution_is_told() -> None:
    exposures([micrograph("a")])
    run(equiphase_average=False)
    assert np.isnan(fitted()["ctf_fit_resolution"].iloc[0])


def test_one_exposure_that_fails_does_not_stop_the_batch() -> None:
    exposures([micrograph("broken", 5.0), micrograph("mute", 6.0), micrograph("good")])
    run()
    assert fitted()["exposure_id"].tolist() == ["e2"]
    assert read_table(HOME / "failed.star", "failed")["reason"].tolist() == [
        "mics/broken.mrc: Gctf: ended with exit code 1; its last line: CUDA error: no kernel image is available for execution on the device",
        "mics/mute.mrc: the program ended without an error, but wrote no fit; its last line: it said nothing",
    ]


def test_a_program_that_hangs_is_given_up() -> None:
    exposures([micrograph("slow", 7.0)])
    run(time_limit_s=0.2)
    assert "mics/slow.mrc: Gctf: was stopped since it took longer than 0.2 s" in read_table(HOME / "failed.star", "failed")["reason"][0]


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    exposures([micrograph("a")])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="none of the programs Gctf, gctf is on the PATH; install one"):
        run()
