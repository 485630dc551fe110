"""The door of remove_duplicates."""

from firn.jobs import remove_duplicates
from firn.runtime.entry import enter

with enter(snakemake, remove_duplicates.Params) as job:
    remove_duplicates.run(job)
