"""The door of validate_fsc."""

from firn.jobs import validate_fsc
from firn.runtime.entry import enter

with enter(snakemake, validate_fsc.Params) as job:
    validate_fsc.run(job)
