"""The door of export_deposition."""

from firn.jobs import export_deposition
from firn.runtime.entry import enter

with enter(snakemake, export_deposition.Params) as job:
    export_deposition.run(job)
