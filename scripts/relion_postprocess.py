"""The door of relion_postprocess."""

from firn.jobs import relion_postprocess
from firn.runtime.entry import enter

with enter(snakemake, relion_postprocess.Params) as job:
    relion_postprocess.run(job)
