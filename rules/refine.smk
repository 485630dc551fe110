# Needs  particles, and a starting map or known poses.
# Makes  half maps, map, mask, FSC and particle poses; classes; images with a part subtracted.
# Steps  gold-standard EM: search poses, reconstruct, measure, repeat; or one of these alone, at known poses.


rule refine_homogeneous:
    """Refine one structure with independent halves."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/refine_homogeneous.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("refine_homogeneous"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/refine_homogeneous.py"


rule stream_refine:
    """Go on from earlier half maps with more particles."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/stream_refine.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("stream_refine"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/stream_refine.py"


rule reconstruct:
    """Reconstruct a map from known poses."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/reconstruct.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("reconstruct"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=1,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/reconstruct.py"


rule refine_nonuniform:
    """Refine one structure with regularisation that differs from place to place."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/refine_nonuniform.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("refine_nonuniform"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/refine_nonuniform.py"


rule subtract_particles:
    """Subtract a part of the map from particle images."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/subtract_particles.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("subtract_particles"),
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
        "../scripts/subtract_particles.py"


rule refine_local:
    """Refine a masked part of a structure near given poses."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/refine_local.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("refine_local"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/refine_local.py"


rule classify_3d:
    """Sort particles into 3D classes at fixed poses."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/classify_3d.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("classify_3d"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=1,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/classify_3d.py"


rule reconstruct_classes:
    """Reconstruct every class from known poses."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/reconstruct_classes.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("reconstruct_classes"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=1,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/reconstruct_classes.py"


rule refine_heterogeneous:
    """Sort particles among several volumes and refine these."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/refine_heterogeneous.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("refine_heterogeneous"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=devices,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/refine_heterogeneous.py"


rule ctf_refine_local:
    """Refine the defocus of single particles."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/ctf_refine_local.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("ctf_refine_local"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=1,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/ctf_refine_local.py"


rule ctf_refine_global:
    """Find aberrations that optics groups share."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/ctf_refine_global.rst",
            category="Refinement",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("ctf_refine_global"),
    conda:
        "../envs/firn.yaml"
    threads: 16
    resources:
        reconstruct_gpu=1,
        mem_mb=11000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/ctf_refine_global.py"
