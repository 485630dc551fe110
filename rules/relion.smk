# Needs  particles, or a map with its half maps; a RELION of the user's own.
# Makes  classes, half maps, map, mask, FSC and particle poses, as firn's own jobs do.
# Steps  hand the input over, run RELION with the right number of MPI processes, read back what it made.


rule relion_class2d:
    """Sort particles into 2D classes with RELION."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/relion_class2d.rst",
            category="2D classification",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("relion_class2d"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=16000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/relion_class2d.py"


rule relion_class3d:
    """Sort particles into 3D classes with RELION."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/relion_class3d.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("relion_class3d"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=16000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/relion_class3d.py"


rule relion_refine3d:
    """Refine one structure with RELION."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/relion_refine3d.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("relion_refine3d"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=16000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/relion_refine3d.py"


rule relion_postprocess:
    """Sharpen a map with relion_postprocess."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/relion_postprocess.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("relion_postprocess"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/relion_postprocess.py"
