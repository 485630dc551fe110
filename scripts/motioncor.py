"""The door of motioncor."""

from firn.jobs import motioncor
from firn.runtime.entry import enter

with enter(snakemake, motioncor.Params) as job:
    motioncor.run(job)
