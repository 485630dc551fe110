"""The door of orientation_diagnostics."""

from firn.jobs import orientation_diagnostics
from firn.runtime.entry import enter

with enter(snakemake, orientation_diagnostics.Params) as job:
    orientation_diagnostics.run(job)
