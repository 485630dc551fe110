"""Pick particles as blobs: balls, ellipses or rings, by normalised cross-correlation with each micrograph."""

from typing import ClassVar

from firn.families.blobs import BlobParams, pick_blobs
from firn.families.micrographs import read_exposures
from firn.families.picking import pick_exposures
from firn.runtime.job import Job


class Params(BlobParams):
    """Find particles as blobs between two diameters, without knowing more about them.

    Each micrograph is reduced to a quarter of the diameter (20 Å at least), its background removed, and correlated with
    projected balls filtered by its CTF. All maxima are kept, with their correlation (NCC) and local power; inspect_picks
    then decides which are particles.
    """

    revision: ClassVar[int] = 3


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, with every maximum found."""
    pick_exposures(job, read_exposures(job), lambda micrograph, row: pick_blobs(micrograph, row, job.params, job.device), "Blobs found")
