# Needs  particles.
# Makes  one or more maps from scratch.
# Steps  stochastic search from random starts, growing resolution.


rule ab_initio:
    """Make starting maps from nothing but particles."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/ab_initio.rst",
            category="Ab-initio reconstruction",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("ab_initio"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=1,
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/ab_initio.py"
