"""The door of relion_refine3d."""

from firn.jobs import relion_refine3d
from firn.runtime.entry import enter

with enter(snakemake, relion_refine3d.Params) as job:
    relion_refine3d.run(job)
