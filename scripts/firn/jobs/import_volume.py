"""Bring a map, its half maps and a mask into the session."""

from typing import ClassVar

from pydantic import Field

from firn.errors import InputError
from firn.families.map_files import describe_maps, read_maps, write_maps
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind

NAMES = ("map", "half1", "half2", "mask")


class Params(JobParams):
    """Read a map, half maps or a mask (MRC, also packed as gz, bz2 or xz), check that they are cubes that fit together, and offer them to other jobs."""

    stage: ClassVar[str] = "import"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    map: str | None = None
    """File of the map; without one, the mean of the half maps is the map."""
    half1: str | None = None
    """File of the first unfiltered half map."""
    half2: str | None = None
    """File of the second unfiltered half map."""
    mask: str | None = None
    """File of a mask with values between 0 and 1."""
    pixel_size: float | None = Field(None, gt=0)
    """Å. Overrides the pixel size in the headers."""


def run(job: Job[Params]) -> None:
    """Read, check, write under the fixed names."""
    files = {name: str(getattr(job.params, name)) for name in NAMES if getattr(job.params, name)}
    if not files:
        raise InputError("import_volume: names no file; give map, half1 and half2, or mask")
    if ("half1" in files) != ("half2" in files):
        raise InputError("import_volume: half maps come in pairs; give both half1 and half2, or neither")
    volumes, pixel_size = read_maps(files, job.params.pixel_size)
    write_maps(job.folder, volumes, pixel_size)
    describe_maps(job, volumes, pixel_size, files)
