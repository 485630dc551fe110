"""The door of gautomatch."""

from firn.jobs import gautomatch
from firn.runtime.entry import enter

with enter(snakemake, gautomatch.Params) as job:
    gautomatch.run(job)
