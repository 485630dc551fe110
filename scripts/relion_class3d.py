"""The door of relion_class3d."""

from firn.jobs import relion_class3d
from firn.runtime.entry import enter

with enter(snakemake, relion_class3d.Params) as job:
    relion_class3d.run(job)
