"""The door of import_relion."""

from firn.jobs import import_relion
from firn.runtime.entry import enter

with enter(snakemake, import_relion.Params) as job:
    import_relion.run(job)
