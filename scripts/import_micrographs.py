"""The door of import_micrographs."""

from firn.jobs import import_micrographs
from firn.runtime.entry import enter

with enter(snakemake, import_micrographs.Params) as job:
    import_micrographs.run(job)
