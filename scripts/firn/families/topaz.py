"""What all jobs share that run Topaz, a program of the users' own: its smaller micrographs, its arguments, where a model comes from.

Convention: pixel i of a micrograph made smaller lies at i * downsampling of the whole one, of which rows and columns beyond the last whole
block are left out. Topaz's own reduction leaves them in, so that its pixels are a little larger than the factor by which it multiplies.
Files bear numbers and paths are relative to the folder that Topaz works in, since it takes blanks and dots in names for ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firn.errors import InputError
from firn.families.micrographs import DENOISED
from firn.families.outside import run_program
from firn.families.outside_picks import Laid, lay_out, name_of
from firn.formats.exposures import load_micrograph
from firn.formats.mrc import write_image
from firn.kernels.fourier import plain_irfft2, plain_rfft2, resize_spectra2
from firn.runtime.job import Job
from firn.runtime.params import JobParams

WORK = "topaz"
"""Folder, deleted afterwards, that Topaz works in."""
WHOLE, SMALL = "whole", "small"
"""Folders in it: micrographs as firn writes them, and as Topaz has normalised them."""
SMALLEST_PX = 8
"""Pixels that the shorter side of a micrograph made smaller needs."""


class TopazParams(JobParams):
    """Parameters of every job that runs Topaz."""

    executable: str | None = None
    """Path of the program; by default the `topaz` on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the command, as Topaz's own help tells them, such as `["--patch-size=512"]`."""


@dataclass(frozen=True)
class Desk:
    """Topaz at work: the program, the folder it works in, the device and the number of threads."""

    program: str
    folder: Path
    device: torch.device
    threads: int

    def command(self, name: str, options: Sequence[str], files: Sequence[str] = ()) -> list[str]:
        """Arguments of a command of Topaz."""
        number = (self.device.index or 0) if self.device.type == "cuda" else -1
        return [self.program, name, *options, f"--device={number}", f"--num-threads={self.threads}", *files]

    def put(self, number: int, micrograph: np.ndarray, pixel_size: float, downsampling: int = 1) -> None:
        """Write a micrograph, made smaller, for Topaz to read as whole_file(number)."""
        small = make_smaller(torch.from_numpy(micrograph).to(self.device), downsampling).cpu().numpy()
        (self.folder / WHOLE).mkdir(exist_ok=True)
        write_image(self.folder / whole_file(number), small, pixel_size * downsampling)

    def normalise(self, files: Sequence[str]) -> list[str]:
        """Command that normalises micrographs as Topaz's models want them; they lie in SMALL under the same names afterwards."""
        return self.command("preprocess", ["--scale=1", "--format=mrc", f"--destdir={SMALL}"], files)

    def run(self, arguments: Sequence[str], output: Path | None = None, heard: Callable[[str], None] | None = None) -> None:
        """Run a command of Topaz in its folder; what it prints goes into a file where one is named, what it says is heard."""
        run_program(arguments, self.folder, output, heard)


def put_exposures(job: Job[Any], desk: Desk, downsampling: int = 1, denoised: bool = False) -> Laid:
    """Exposures that can be read, which lie before Topaz then, made smaller, under their numbers.

    denoised: put what topaz_denoise made of them; raises InputError when there is no such thing.
    """

    def put(number: int, row: dict[Any, Any], micrograph: np.ndarray) -> None:
        if denoised and DENOISED not in row:
            raise InputError(f"job {job.name}: its exposures have no denoised micrographs; give it those of a topaz_denoise")
        wanted = load_micrograph(row | {"micrograph": row[DENOISED]}) if denoised else micrograph
        desk.put(number, wanted, float(row["micrograph_pixel_size"]), downsampling)

    return lay_out(job, desk.folder / WHOLE, put=put)


def whole_file(number: int) -> str:
    """Path of a micrograph that Desk.put wrote."""
    return f"{WHOLE}/{name_of(number)}.mrc"


def normalised(path: str) -> str:
    """Path of a micrograph after Desk.normalise."""
    return f"{SMALL}/{Path(path).name}"


def smaller_shape(shape: Sequence[int], factor: int) -> tuple[int, int]:
    """(height, width) of a micrograph made smaller by a whole factor."""
    return shape[0] // factor, shape[1] // factor


def make_smaller(micrograph: torch.Tensor, factor: int) -> torch.Tensor:
    """A micrograph `(y, x)` Fourier-cropped by a whole factor, grey values kept; what is not finite becomes the mean.

    Raises InputError when next to nothing is left.
    """
    height, width = (side // factor * factor for side in micrograph.shape)
    shape = (height // factor, width // factor)
    if min(shape) < SMALLEST_PX:
        raise InputError(
            f"downsampling: {factor} leaves next to nothing of a micrograph of {micrograph.shape[1]} x {micrograph.shape[0]} pixels"
        )
    image = micrograph[:height, :width]
    known = torch.isfinite(image)
    if not bool(known.all()):
        image = torch.where(known, image, image[known].mean() if bool(known.any()) else 0.0)
    return image if factor == 1 else plain_irfft2(resize_spectra2(plain_rfft2(image), (height, width), shape), shape)
