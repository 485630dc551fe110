"""The door of make_mask."""

from firn.jobs import make_mask
from firn.runtime.entry import enter

with enter(snakemake, make_mask.Params) as job:
    make_mask.run(job)
