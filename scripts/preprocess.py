"""The door of preprocess."""

from firn.jobs import preprocess
from firn.runtime.entry import enter

with enter(snakemake, preprocess.Params) as job:
    preprocess.run(job)
