"""The door of refine_heterogeneous."""

from firn.jobs import refine_heterogeneous
from firn.runtime.entry import enter

with enter(snakemake, refine_heterogeneous.Params) as job:
    refine_heterogeneous.run(job)
