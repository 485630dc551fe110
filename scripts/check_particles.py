"""The door of check_particles."""

from firn.jobs import check_particles
from firn.runtime.entry import enter

with enter(snakemake, check_particles.Params) as job:
    check_particles.run(job)
