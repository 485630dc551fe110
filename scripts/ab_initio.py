"""The door of ab_initio."""

from firn.jobs import ab_initio
from firn.runtime.entry import enter

with enter(snakemake, ab_initio.Params) as job:
    ab_initio.run(job)
