# Needs  half maps.
# Makes  masks, FSC curves, sharpened maps; resolution by direction and by place.
# Steps  mask, validate, sharpen, filter.


rule make_mask:
    """Make a soft mask from a map."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/make_mask.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("make_mask"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/make_mask.py"


rule validate_fsc:
    """Measure the resolution honestly."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/validate_fsc.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("validate_fsc"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/validate_fsc.py"


rule sharpen:
    """Sharpen a map."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/sharpen.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("sharpen"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/sharpen.py"


rule volume_tools:
    """Filter, crop, pad, resample or mirror a map."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/volume_tools.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("volume_tools"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/volume_tools.py"


rule orientation_diagnostics:
    """Measure how resolution depends on direction."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/orientation_diagnostics.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("orientation_diagnostics"),
    conda:
        "../envs/firn.yaml"
    threads: 2
    resources:
        mem_mb=6000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/orientation_diagnostics.py"


rule local_resolution:
    """Estimate local resolution."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/local_resolution.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("local_resolution"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        reconstruct_gpu=1,
        mem_mb=12000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/local_resolution.py"


rule local_filter:
    """Filter a map at its local resolution."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/local_filter.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("local_filter"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        reconstruct_gpu=1,
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/local_filter.py"


rule deepemhancer:
    """Sharpen a map with DeepEMhancer."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/deepemhancer.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("deepemhancer"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        reconstruct_gpu=1,
        mem_mb=16000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/deepemhancer.py"


rule threedfsc:
    """Measure the FSC by direction with 3DFSC."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/threedfsc.rst",
            category="Post-processing",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("threedfsc"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        reconstruct_gpu=1,
        mem_mb=16000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/threedfsc.py"
