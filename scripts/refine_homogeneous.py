"""The door of refine_homogeneous."""

from firn.jobs import refine_homogeneous
from firn.runtime.entry import enter

with enter(snakemake, refine_homogeneous.Params) as job:
    refine_homogeneous.run(job)
