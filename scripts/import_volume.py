"""The door of import_volume."""

from firn.jobs import import_volume
from firn.runtime.entry import enter

with enter(snakemake, import_volume.Params) as job:
    import_volume.run(job)
