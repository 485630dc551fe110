"""Micrographs for the pickers of other programs: two of one file name, each with one bright pixel; programs to be put on the PATH."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from firn.formats.mrc import write_image
from firn.formats.tables import write_table
from stand_in import write_program

BRIGHTEST = {"e1": (40, 16), "e2": (88, 72)}
"""Column and row of the bright pixel, by exposure."""
PIXEL = 2.0
BATCH = "results/ctf/batches/0001"


def put_program(name: str, body: str) -> Path:
    """Write a Python program into bin/; its path."""
    return write_program(Path("bin") / name, f"#!{sys.executable}\n{body}")


def write_exposures(float16: bool = False, **columns: object) -> None:
    """Write the micrographs and the table of the batch, with further columns."""
    for name, (x, y) in BRIGHTEST.items():
        image = np.random.default_rng(1).normal(size=(90, 121)).astype(np.float32)
        image[y, x] = 99
        Path(name).mkdir(exist_ok=True)
        write_image(f"{name}/mic.mrc", image, PIXEL, float16)
    names = list(BRIGHTEST)
    table = pd.DataFrame({"exposure_id": names, "batch": "0001", "micrograph": [f"{name}/mic.mrc" for name in names], **columns})
    write_table(f"{BATCH}/exposures.star", table.assign(micrograph_pixel_size=PIXEL, voltage_kv=300.0), "exposures")
