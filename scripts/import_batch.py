"""The door of one batch of import_movies, cut while the microscope collects."""

from firn.errors import ExposureError
from firn.jobs import import_movies
from firn.runtime.entry import enter

with enter(snakemake, import_movies.Params) as job:
    refused = snakemake.params.refused
    if refused:
        import_movies.refuse(job, {entry["path"]: ExposureError(entry["code"], entry["reason"]) for entry in refused})
    else:
        import_movies.run(job)
