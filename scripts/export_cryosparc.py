"""The door of export_cryosparc."""

from firn.jobs import export_cryosparc
from firn.runtime.entry import enter

with enter(snakemake, export_cryosparc.Params) as job:
    export_cryosparc.run(job)
