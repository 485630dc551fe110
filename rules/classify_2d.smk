# Needs  particles.
# Makes  class averages, particles with class and pose; selected particles and templates.
# Steps  online EM over class, rotation and shift; then select classes by rule or by hand.


rule classify_2d:
    """Sort particles into 2D class averages."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/classify_2d.rst",
            category="2D classification",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("classify_2d"),
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
        "../scripts/classify_2d.py"


rule stream_2d:
    """Go on from earlier 2D classes with more particles."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/stream_2d.rst",
            category="2D classification",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("stream_2d"),
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
        "../scripts/stream_2d.py"


rule select_2d:
    """Keep the good 2D classes."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/select_2d.rst",
            category="2D classification",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("select_2d"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/select_2d.py"
