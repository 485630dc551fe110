"""The door of refine_local."""

from firn.jobs import refine_local
from firn.runtime.entry import enter

with enter(snakemake, refine_local.Params) as job:
    refine_local.run(job)
