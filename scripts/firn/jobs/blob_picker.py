"""Pick particles as blobs: balls, ellipses or rings, by normalised cross-correlation with each micrograph."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from firn.families.blobs import BlobParams, BlobShapeParams, check_order, pick_blobs
from firn.families.micrographs import read_exposures
from firn.families.picking import pick_exposures
from firn.formats.blobs import read_blobs
from firn.runtime.job import Job
from firn.runtime.params import slot


class Params(BlobShapeParams):
    """Find particles as blobs between two diameters, without knowing more about them.

    Each micrograph is reduced to a quarter of the diameter (20 Å at least), its background removed, and correlated with
    projected balls filtered by its CTF. All maxima are kept, with their correlation (NCC) and local power; inspect_picks
    then decides which are particles. The diameters are given, or found by a blob_picker_tuner.
    """

    revision: ClassVar[int] = 4

    blobs: str | None = slot("blobs", optional=True)
    """A blob_picker_tuner whose diameters to pick with, when none are given here."""
    min_diameter: float | None = Field(None, gt=0)
    """Å. Smallest diameter of a particle."""
    max_diameter: float | None = Field(None, gt=0)
    """Å. Largest diameter of a particle."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_diameter is not None and self.max_diameter is not None:
            check_order(self.min_diameter, self.max_diameter)
        elif not (self.blobs and self.min_diameter is None and self.max_diameter is None):
            raise ValueError("give min_diameter and max_diameter, or, as blobs, a blob_picker_tuner that finds them")
        return self


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, with every maximum found."""
    params = blob_params(job)
    pick_exposures(job, read_exposures(job), lambda micrograph, row: pick_blobs(micrograph, row, params, job.device), "Blobs found")
    job.metric("min_diameter", params.min_diameter, "Å")
    job.metric("max_diameter", params.max_diameter, "Å")


def blob_params(job: Job[Params]) -> BlobParams:
    """The parameters with the diameters given, or else those of the tuner."""
    given = job.params
    if given.min_diameter is not None and given.max_diameter is not None:
        return BlobParams.of(given, given.min_diameter, given.max_diameter)
    return BlobParams.of(given, *read_blobs(job.input("blobs", "blobs.yaml")))
