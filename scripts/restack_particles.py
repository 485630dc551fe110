"""The door of restack_particles."""

from firn.jobs import restack_particles
from firn.runtime.entry import enter

with enter(snakemake, restack_particles.Params) as job:
    restack_particles.run(job)
