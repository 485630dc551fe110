"""The door of threedfsc."""

from firn.jobs import threedfsc
from firn.runtime.entry import enter

with enter(snakemake, threedfsc.Params) as job:
    threedfsc.run(job)
