"""Campaigns on a real Slurm, which is started once with accounts, and once without."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from campaigns import QUICK, ROOT, Campaign

from slurm.cluster import Cluster, missing

#: what a site adds to the workflow's profile
SITE = """\
slurm-init-seconds-before-status-checks: 2
latency-wait: 20
"""
SITE_WITH_ACCOUNTS = """\
default-resources:
  slurm_account: models
  slurm_partition: batch
"""
SITE_WITHOUT_ACCOUNTS = """\
slurm-no-account: true
slurm-status-command: squeue
"""


def started(folder: Path, accounting: bool) -> Iterator[Cluster]:
    lacking = missing(accounting)
    if find_spec("snakemake_executor_plugin_slurm") is None:
        lacking += ["snakemake-executor-plugin-slurm"]
    if lacking:
        pytest.skip(f"needs a machine with Slurm: {', '.join(lacking)} missing")
    cluster = Cluster(folder, accounting)
    yield cluster
    cluster.end()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Without accounts, as small clusters are."""
    yield from started(tmp_path_factory.mktemp("cluster"), accounting=False)


@pytest.fixture
def cluster(plain: Cluster) -> Iterator[Cluster]:
    """The same, whose nodes may be killed."""
    yield plain
    plain.mend()


@pytest.fixture(scope="session")
def accounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With a database of accounts, which each job must name."""
    yield from started(tmp_path_factory.mktemp("accounted"), accounting=True)


def campaign(cluster: Cluster, folder: Path, commands: Path) -> Campaign:
    """A campaign on a cluster, in a folder that all nodes see.

    Args:
        cluster: where its jobs run.
        folder: where it is.
        commands: where the command convkit lies.
    """
    (folder / "site").mkdir()
    site = SITE + (SITE_WITH_ACCOUNTS if cluster.accounting else SITE_WITHOUT_ACCOUNTS)
    (folder / "site/config.yaml").write_text(site)
    words = [*cluster.inside(folder), sys.executable, "-m", "snakemake", *QUICK, f"--profile={folder}/site"]
    search = f"{commands}:{os.environ['PATH']}"
    return Campaign(folder, search, *words, f"--workflow-profile={ROOT}/profiles/slurm")


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a command convkit that is played."""
    command = tmp_path_factory.mktemp("stubs") / "convkit"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("stub.py")} "$@"\n')
    command.chmod(0o755)
    return command.parent
