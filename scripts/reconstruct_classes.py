"""The door of reconstruct_classes."""

from firn.jobs import reconstruct_classes
from firn.runtime.entry import enter

with enter(snakemake, reconstruct_classes.Params) as job:
    reconstruct_classes.run(job)
