"""The door of classify_3d."""

from firn.jobs import classify_3d
from firn.runtime.entry import enter

with enter(snakemake, classify_3d.Params) as job:
    classify_3d.run(job)
