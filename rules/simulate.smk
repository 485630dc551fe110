# Needs  an atomic model or a phantom.
# Makes  movies or particles with their truth, and scores against it.
# Steps  place, project, damage, move, count.


rule simulate_movies:
    """Simulate movies with known truth."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/simulate_movies.rst",
            category="Simulation",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("simulate_movies"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/simulate_movies.py"


rule simulate_particles:
    """Simulate particles with known truth."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/simulate_particles.rst",
            category="Simulation",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("simulate_particles"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/simulate_particles.py"


rule score:
    """Compare results with the truth."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/score.rst",
            category="Simulation",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("score"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/score.py"
