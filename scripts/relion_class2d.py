"""The door of relion_class2d."""

from firn.jobs import relion_class2d
from firn.runtime.entry import enter

with enter(snakemake, relion_class2d.Params) as job:
    relion_class2d.run(job)
