"""The door of topaz_cross_validation."""

from firn.jobs import topaz_cross_validation
from firn.runtime.entry import enter

with enter(snakemake, topaz_cross_validation.Params) as job:
    topaz_cross_validation.run(job)
