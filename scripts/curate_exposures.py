"""The door of curate_exposures."""

from firn.jobs import curate_exposures
from firn.runtime.entry import enter

with enter(snakemake, curate_exposures.Params) as job:
    curate_exposures.run(job)
