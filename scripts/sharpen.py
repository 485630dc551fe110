"""The door of sharpen."""

from firn.jobs import sharpen
from firn.runtime.entry import enter

with enter(snakemake, sharpen.Params) as job:
    sharpen.run(job)
