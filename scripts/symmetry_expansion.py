"""The door of symmetry_expansion."""

from firn.jobs import symmetry_expansion
from firn.runtime.entry import enter

with enter(snakemake, symmetry_expansion.Params) as job:
    symmetry_expansion.run(job)
