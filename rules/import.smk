# Needs  raw movies, micrographs, particle stacks or maps, wherever they lie (they are linked, never copied).
# Makes  exposures.star with batches, particles.star or map.mrc, with stable identities.
# Steps  find the files, check every header, set odd ones aside in failed.star, write tables.


checkpoint import_movies:
    """Find movies, check them, give each a stable id and a batch."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/import_movies.rst",
            category="Import",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=pattern(whole_imports(graph)),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/import_movies.py"


checkpoint import_micrographs:
    """Find aligned micrographs, check them, give each a stable id and a batch."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/import_micrographs.rst",
            category="Import",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("import_micrographs"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/import_micrographs.py"


rule import_particles:
    """Read particles and their stacks from a STAR file."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/import_particles.rst",
            category="Import",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("import_particles"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/import_particles.py"


rule import_volume:
    """Read a map, half maps or a mask."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/import_volume.rst",
            category="Import",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("import_volume"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/import_volume.py"


checkpoint import_relion:
    """Bring micrographs, picks, particles, maps and masks of a RELION project in."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/import_relion.rst",
            category="Import",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("import_relion"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/import_relion.py"
