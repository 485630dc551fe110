# Needs  a folder that movies come into, named by an import's files; live/control.yaml if somebody wants to decide something.
# Makes  batches as they fill up, their results as in any session, live/session.json and alarms for people, live/ended.
#        Rounds of 2D classes and of a map from all particles so far, live/rounds.csv.
# Steps  tick: look, settle, cut, plan tries and rounds; run what is open; try again what failed; end, after which the session runs as any other.

from snakemake.logging import logger
from snakemake_interface_executor_plugins.settings import ExecMode

from firn.dag.collection import batch_steps, import_folders, import_inputs, import_settings, listed, live_plan
from firn.dag.streams import stream_jobs, stream_plan
from firn.live.rounds import needs_of
from firn.live.streams import round_threads
from firn.live.targets import FailureRecorder, live_targets

if workflow.exec_mode == ExecMode.DEFAULT:
    logger.addHandler(FailureRecorder())


wildcard_constraints:
    k=r"[0-9]+",
    n=r"[0-9]+",
    trial=r"[0-9]+",
    made=r"[0-9]+",
    round=r"[0-9]+",


localrules:
    live,
    live_report,
    tick,


rule live:
    """Process movies while they come, until the session ends."""
    input:
        lambda wildcards: live_targets(live_plan(graph), stream_jobs(graph)),


checkpoint tick:
    """Wait for something to do, and cut it into batches."""
    output:
        "live/ticks/{n}",
    log:
        "logs/live/tick_{n}.log",
    conda:
        "../envs/firn.yaml"
    threads: 0
    params:
        plan=lambda wildcards: live_plan(graph),
        streams=lambda wildcards: stream_plan(graph),
    script:
        "../scripts/tick.py"


rule import_batch:
    """Check and describe the movies of one batch."""
    input:
        lambda wildcards: import_inputs(wildcards.job, wildcards.batch),
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("import_movies"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=lambda wildcards: import_settings(graph, wildcards.job, wildcards.batch),
        inputs=lambda wildcards: import_folders(wildcards.job, wildcards.batch),
        refused=lambda wildcards: listed(wildcards.job, wildcards.batch, "refused"),
    script:
        "../scripts/import_batch.py"


rule inspect_batch:
    """Set limits on the picks of one batch while movies come."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("inspect_picks"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/inspect_picks.py"


rule batch_try:
    """Make what is missing of a batch that failed, the third time exposure by exposure."""
    input:
        "live/batches/{job}/{batch}.json",
    output:
        json="live/tries/{job}/{batch}/{k}.json",
    log:
        "logs/live/{job}/{batch}_{k}.log",
    wildcard_constraints:
        job=jobs_of("import_movies"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=lambda wildcards: 8000 * 2 ** min(int(wildcards.k), 3),
    params:
        chain=lambda wildcards: batch_steps(graph, wildcards.job, wildcards.batch),
        files=lambda wildcards: [entry["path"] for entry in listed(wildcards.job, wildcards.batch, "files")],
    script:
        "../scripts/batch_try.py"


rule picker_test:
    """Try a picker on one exposure."""
    input:
        plan="live/tests/{trial}/plan.json",
    output:
        json="live/tests/{trial}/result.json",
    log:
        "logs/live/test_{trial}.log",
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        auxiliary_gpu=1,
        mem_mb=4000,
    script:
        "../scripts/picker_test.py"


rule live_report:
    """Write the report of the session as it is after so many rounds."""
    output:
        json="live/reports/{made}.json",
    log:
        "logs/live/report_{made}.log",
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        session=config,
        schema=f"{workflow.basedir}/config/schema.json",
    script:
        "../scripts/live_report.py"


rule stream_round:
    """Make 2D classes or a map again from all particles accepted so far."""
    input:
        plan="live/rounds/{job}/{round}.json",
        needs=lambda wildcards: needs_of(wildcards.job, wildcards.round),
    output:
        json="live/rounds/{job}/{round}/{k}.json",
    log:
        "logs/{job}/rounds/{round}_{k}.log",
    benchmark:
        "logs/{job}/rounds/{round}_{k}.tsv"
    wildcard_constraints:
        job=pattern(stream_jobs(graph, "classify", "refine")),
    conda:
        "../envs/firn.yaml"
    threads: round_threads()
    resources:
        reconstruct_gpu=devices,
        mem_mb=lambda wildcards: 11000 * 2 ** (int(wildcards.k) - 1),
    script:
        "../scripts/stream_round.py"


rule select_round:
    """Select 2D classes of a round."""
    input:
        plan="live/rounds/{job}/{round}.json",
        needs=lambda wildcards: needs_of(wildcards.job, wildcards.round),
    output:
        json="live/rounds/{job}/{round}/{k}.json",
    log:
        "logs/{job}/rounds/{round}_{k}.log",
    benchmark:
        "logs/{job}/rounds/{round}_{k}.tsv"
    wildcard_constraints:
        job=pattern(stream_jobs(graph, "select")),
    conda:
        "../envs/firn.yaml"
    threads: round_threads()
    resources:
        mem_mb=lambda wildcards: 8000 * 2 ** (int(wildcards.k) - 1),
    script:
        "../scripts/stream_round.py"


rule auxiliary_round:
    """Make a first map from selected particles."""
    input:
        plan="live/rounds/{job}/{round}.json",
        needs=lambda wildcards: needs_of(wildcards.job, wildcards.round),
    output:
        json="live/rounds/{job}/{round}/{k}.json",
    log:
        "logs/{job}/rounds/{round}_{k}.log",
    benchmark:
        "logs/{job}/rounds/{round}_{k}.tsv"
    wildcard_constraints:
        job=pattern(stream_jobs(graph, "initial")),
    conda:
        "../envs/firn.yaml"
    threads: round_threads()
    resources:
        auxiliary_gpu=1,
        mem_mb=lambda wildcards: 8000 * 2 ** (int(wildcards.k) - 1),
    script:
        "../scripts/stream_round.py"
