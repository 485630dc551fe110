"""The door of classify_2d."""

from firn.jobs import classify_2d
from firn.runtime.entry import enter

with enter(snakemake, classify_2d.Params) as job:
    classify_2d.run(job)
