"""The door of ctffind."""

from firn.jobs import ctffind
from firn.runtime.entry import enter

with enter(snakemake, ctffind.Params) as job:
    ctffind.run(job)
