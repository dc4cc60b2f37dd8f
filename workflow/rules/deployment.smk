"""How the workflow was started, and the environments in which its jobs run."""

import argparse
import os
import sys
from pathlib import Path


def refuse_missing_profile():
    """Refuse a workflow profile that is named and isn't there: Snakemake would go on without it."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workflow-profile")
    named = parser.parse_known_args(sys.argv[1:])[0].workflow_profile
    beside = Path(str(workflow.main_snakefile)).parent
    places = [Path(named), Path("profiles", named), beside / "profiles" / named] if named not in (None, "none") else []
    if places and not any(place.exists() for place in places):
        sys.exit(f"convkit: there is no workflow profile {named} (looked for {', '.join(map(str, places))})")


def package():
    """What pip installs as convkit in the environments of jobs: the one that this workflow came with."""
    project = workflow.current_basedir.join("../../pyproject.toml")
    if hasattr(project, "ref"):  # in a git repository, which may be on the web
        local = hasattr(project, "repo_path")
        home = Path(project.repo_path).absolute().as_uri() if local else f"https://{project.host}/{project.repo}"
        return f"git+{home}@{project.ref}"
    found = Path(project.get_path_or_uri(secret_free=True)).resolve()
    return f"--editable {found.parent.as_uri()}" if found.is_file() else "convkit-checkpoints"


def environment(stage):
    """The environment of a stage, as its row needs it."""
    return lambda wildcards: f"../envs/{environments.serving(stage, ROWS[wildcards.id], TABLE.known)}.yaml"


refuse_missing_profile()
os.environ.setdefault("CONVKIT_PACKAGE", package())
