"""The door of reconstruct."""

from firn.jobs import reconstruct
from firn.runtime.entry import enter

with enter(snakemake, reconstruct.Params) as job:
    reconstruct.run(job)
