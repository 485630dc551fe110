"""Copy particle images to the computing machine's disk."""

import shutil
from typing import ClassVar

from firn.runtime.cache import FOLDER, images_wanted, open_cache
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot


class Params(JobParams):
    """Copy the images of a particle set to the disk that the environment variable FIRN_CACHE names, before any job takes a GPU for them.

    Give the jobs that use the images this job as their input. Only the particles of the set are copied, whatever else their stacks hold.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)

    particles: str = slot("particles")
    """Particles whose images are copied."""


def run(job: Job[Params]) -> None:
    """Fill the cache, and hand the table on as it is."""
    shutil.copyfile(job.input("particles", "particles.star"), job.folder / "particles.star")
    cache = open_cache(job.warn)
    if cache is None:
        if not job.warnings:
            job.warn(f"{FOLDER} is not set where this job ran; nothing was copied")
        return
    try:
        done = cache.fill(images_wanted(Params, job.inputs))
    finally:
        cache.close()
    job.metric("particles", done.images)
    job.metric("stacks", done.stacks)
    for name in ("wanted", "held", "copied", "left"):
        job.metric(f"{name}_gb", getattr(done, name) / 1e9, "GB")
    job.metric("copy_seconds", done.seconds, "s")
