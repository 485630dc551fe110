"""The door of local_filter."""

from firn.jobs import local_filter
from firn.runtime.entry import enter

with enter(snakemake, local_filter.Params) as job:
    local_filter.run(job)
