"""The door of import_particles."""

from firn.jobs import import_particles
from firn.runtime.entry import enter

with enter(snakemake, import_particles.Params) as job:
    import_particles.run(job)
