"""The door of gather."""

from firn.jobs import gather
from firn.runtime.entry import enter

with enter(snakemake, gather.Params) as job:
    gather.run(job)
