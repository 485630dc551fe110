"""The door of refine_nonuniform."""

from firn.jobs import refine_nonuniform
from firn.runtime.entry import enter

with enter(snakemake, refine_nonuniform.Params) as job:
    refine_nonuniform.run(job)
