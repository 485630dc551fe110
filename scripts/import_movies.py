"""The door of import_movies."""

from firn.jobs import import_movies
from firn.runtime.entry import enter

with enter(snakemake, import_movies.Params) as job:
    import_movies.run(job)
