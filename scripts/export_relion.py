"""The door of export_relion."""

from firn.jobs import export_relion
from firn.runtime.entry import enter

with enter(snakemake, export_relion.Params) as job:
    export_relion.run(job)
