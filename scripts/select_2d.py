"""The door of select_2d."""

from firn.jobs import select_2d
from firn.runtime.entry import enter

with enter(snakemake, select_2d.Params) as job:
    select_2d.run(job)
