# Bindings between wildcards and the session's graph; the logic is in scripts/firn/dag.


wildcard_constraints:
    job=r"[a-z][a-z0-9_]*",
    batch=r"[0-9]+",


graph = load_session(config, f"{workflow.basedir}/config/schema.json")
scattered_jobs = pattern(graph.scattered() + collected_imports(graph) + inspected_apart(graph))
whole_inspections = pattern([job for job in graph.names_of("inspect_picks") if job not in inspected_apart(graph)])


def jobs_of(job_type):
    """Constraint that matches the jobs of a type."""
    return pattern(graph.names_of(job_type))


def settings(wildcards):
    """All that decides the numbers of a job, or of one batch of it."""
    job, batch = wildcards.job, wildcards.get("batch")
    return (batch_view(graph, job, batch) if batch else as_decided(graph, job)).settings(job)


def devices(wildcards):
    """How many devices of its lane a job takes."""
    return graph.settings(wildcards.job).get("devices", 1)


def job_inputs(wildcards):
    """What a job waits for."""
    return files(graph, wildcards.job)


def job_folders(wildcards):
    """Folders a job reads, by slot."""
    return folders(graph, wildcards.job)


def batch_inputs(wildcards):
    """What one batch of a job waits for."""
    return files(batch_view(graph, wildcards.job, wildcards.batch), wildcards.job, wildcards.batch)


def batch_folders(wildcards):
    """Folders one batch of a job reads, by slot."""
    return folders(batch_view(graph, wildcards.job, wildcards.batch), wildcards.job, wildcards.batch)


def all_batches(wildcards):
    """Every batch of a job, known once its import has run or a live session has cut it."""
    collected = collected_batches(graph, wildcards.job)
    if collected is not None:
        return collected
    root = graph.root_import(wildcards.job)
    made_by = getattr(checkpoints, graph.type_of(root).name)
    return batch_files(wildcards.job, made_by.get(job=root).output.json)


def all_batch_folders(wildcards, input):
    """Folder of every batch of a job."""
    return {"batches": parents(input)}
