"""What is done when a run begins and when it ends, by the hooks; and on the nodes of a cluster."""

import atexit

RUN = BEGAN = WORKER = None


def begin_run():
    """Record this run, so that the next one knows what it left if it is killed; and start its worker."""
    global RUN, BEGAN, WORKER
    BEGAN = time.time()
    RUN = killed_runs.Run(getattr(workflow.persistence, "_lockfile", {}).values())
    Path(RESULTS, "logs", "verdict.log").unlink(missing_ok=True)
    start_jobs_at_once()
    if may_have_worker():
        WORKER = worker.Worker()


def start_jobs_at_once():
    """Lift Snakemake's own limit of 100 jobs a second from jobs that run here, where it limits nothing.

    To keep to it, Snakemake looks for jobs once more each second for every job that has ended, until none is left.
    """
    limit = workflow.scheduler.job_rate_limiter
    if workflow.local_exec and limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


@functools.cache
def begin_group():
    """Start a worker on a node of a cluster, for the jobs that were submitted together: no hook is called there."""
    jobs = workflow.dag_settings.target_jobs if workflow.remote_exec else ()
    if len(jobs) > 1 and may_have_worker():
        atexit.register(worker.Worker().end)


def may_have_worker():
    """Whether stages of small rows are forks of a worker: of the jobs that run here, in the environment of this process.

    Other packages may do when imported what doesn't survive a fork.
    """
    deployed = workflow.deployment_settings.deployment_method
    small = any(map(has_small_stages, ROWS))
    return config.get("worker", True) and workflow.local_exec and small and not deployed and not others()


def end_run():
    """Forget this run, and end its worker."""
    if WORKER:
        WORKER.end()
    if RUN:
        RUN.end()


def end_part():
    """End a run that has succeeded. Of a part of the campaign there is no verdict, so a stage's error is its end."""
    documents = [Path(RESULTS, id, f"{stage}.json") for id in ROWS for stage in STAGES]
    end_run()
    if failed := [path for path in documents if path.exists() and path.stat().st_mtime >= BEGAN and error_in(path)]:
        sys.exit(f"convkit: ended with an error: {', '.join(map(str, failed))}")


def report_failure():
    """Write the page of a campaign whose jobs failed, and print its table, unless its verdict did."""
    if Path(RESULTS, "logs", "verdict.log").exists():
        return
    command = ["convkit", "report", RESULTS, f"--table={config['checkpoints']}", *history(), "--no-fail"]
    try:
        subprocess.run(command, stdout=sys.stderr, check=False)
    except FileNotFoundError:
        print("convkit: no page was written: Snakemake finds no command convkit outside of its jobs", file=sys.stderr)
