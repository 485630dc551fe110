"""The door of local_resolution."""

from firn.jobs import local_resolution
from firn.runtime.entry import enter

with enter(snakemake, local_resolution.Params) as job:
    local_resolution.run(job)
