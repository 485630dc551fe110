# Needs  exposures with movies and, if there is one, a gain reference.
# Makes  dose-weighted and plain micrographs, a motion STAR per movie.
# Steps  align whole frames, fit a smooth local field (patch_motion only), sum with dose weights.


rule patch_motion:
    """Align and sum the movies of one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("patch_motion"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=8000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/patch_motion.py"


rule full_frame_motion:
    """Align the movies of one batch frame by frame, without local motion, and sum them."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("full_frame_motion"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=8000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/full_frame_motion.py"


rule motioncor:
    """Correct the motion of one batch of movies with MotionCor."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("motioncor"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=16000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/motioncor.py"


rule relion_motioncorr:
    """Correct the motion of one batch of movies with RELION."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("relion_motioncorr"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        mem_mb=16000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/relion_motioncorr.py"
