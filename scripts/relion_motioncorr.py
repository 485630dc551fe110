"""The door of relion_motioncorr."""

from firn.jobs import relion_motioncorr
from firn.runtime.entry import enter

with enter(snakemake, relion_motioncorr.Params) as job:
    relion_motioncorr.run(job)
