"""The door of align_volumes."""

from firn.jobs import align_volumes
from firn.runtime.entry import enter

with enter(snakemake, align_volumes.Params) as job:
    align_volumes.run(job)
