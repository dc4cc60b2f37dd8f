"""Each way of starting the workflow, typed as docs/how-to/deploy.md says, where only Snakemake is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import stand_in_conda

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/how-to/deploy.md"
#: the repository of the page
ONLINE = "https://github.com/OWNER/convkit"
#: what a user of the workflow catalog installs
INSTALLED = ("snakemake", "pandas", "pygments", "snakedeploy==0.17.1")
#: a row of a campaign that needs no framework, and rows that need each of them
REPAIR = "old\tgenerated://cerebras-old?layers=1\tfix-checkpoint-spec\t"
ROWS = [
    REPAIR,
    "llama\tgenerated://llama?layers=1\tcerebras/llama\t",
    "t5x\tgenerated://t5x?decoder_layers=1\tte/t5-fused\t",
    "orbax\tgenerated://orbax-v0?steps=1\t\torbax-v1",
]


def write_table(folder: Path, *rows: str) -> None:
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config/checkpoints.tsv").write_text("\n".join(["id\tsource\tto\tformat", *rows, ""]))


def block(heading: str, language: str = "sh") -> str:
    """What the page says under a heading in its block of a language."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return found


class User:
    """Somebody on a machine with only Snakemake and snakedeploy, and a convkit elsewhere.

    Args:
        home: a folder of theirs.
        environment: with Snakemake, without convkit.
        clone: of this repository.
    """

    def __init__(self, home: Path, environment: Path, clone: Path) -> None:
        self.home, self.clone = home, clone
        self.path = [str(environment / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CONVKIT", "VIRTUAL"))
        }
        self.environment = kept | {
            "XDG_CACHE_HOME": str(home / "cache"),
            "GIT_CONFIG_COUNT": "1",  # the repository of the page is the clone
            "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": ONLINE,
        }

    def types(self, commands: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        for said, there in (
            ("/path/to/convkit/.venv/bin", str(Path(sys.executable).parent)),
            ("/path/to/convkit", str(self.clone)),
            ("/path/to/models", str(self.home / "models")),
        ):
            commands = commands.replace(said, there)
        environment = self.environment | {"PATH": os.pathsep.join(self.path)}
        return subprocess.run(
            ["bash", "-euc", commands],
            cwd=folder or self.home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeeds(self, commands: str, folder: Path | None = None) -> str:
        """Type commands, which succeed; returns all that they print."""
        done = self.types(commands, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    command = [folder / "bin/python", "-m", "pip", "install", "-qq", *INSTALLED, "-c", ROOT / "constraints.txt"]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def user(tmp_path: Path, environment: Path) -> User:
    """Their clone has the files as they are here, in a commit with the tag of the page."""
    clone = tmp_path / "convkit"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    changed = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    if changed:
        subprocess.run(["git", "apply", "--index"], cwd=clone, input=changed, check=True)
    write_table(clone, REPAIR)
    author = ("-c", "user.name=user", "-c", "user.email=user@localhost")
    subprocess.run(["git", *author, "commit", "-qam", "a small table"], cwd=clone, check=True)
    subprocess.run(["git", "tag", "v0.1.0"], cwd=clone, check=True)
    return User(tmp_path, environment, clone)


def stages(said: str) -> set[str]:
    return set(re.findall(r"Job \d+: (\S+: .+)", said))


def of_rows(*ids: str) -> set[str]:
    named = ("fetch", "inspect", "plan", "convert", "round trip", "equivalence")
    return {f"{id}: {stage}" for id in ids for stage in named}


@pytest.mark.parametrize("start", ["snakemake", "snakemake --snakefile workflow/Snakefile"])
def test_planning_in_a_clone_needs_snakemake_alone(user: User, start: str) -> None:
    assert user.types("python -c 'import convkit.errors'").returncode != 0
    assert user.types("convkit").returncode != 0
    write_table(user.clone, *ROWS)
    said = user.succeeds(f"{start} --dry-run", user.clone)
    repair = {"old: fetch", "old: inspect", "old: plan", "old: repair", "old: round trip"}
    assert stages(said) == of_rows("llama", "t5x", "orbax") | repair
    assert "Using workflow specific profile profiles/default" in said


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_the_profile_is_found_from_another_folder(user: User, snakefile: str) -> None:
    write_table(user.home, REPAIR)
    (user.home / "config/config.yaml").write_text((ROOT / "config/config.yaml").read_text())
    said = user.succeeds(f"snakemake --dry-run --snakefile /path/to/convkit/{snakefile}")
    assert re.search(r"Using workflow specific profile \S+/profiles/default", said)
    assert stages(said)
    for wrong in ("--workflow-profile nowhere", "--workflow-profile=nowhere --cores 1"):
        done = user.types(f"snakemake {wrong} --snakefile /path/to/convkit/{snakefile} --dry-run")
        assert done.returncode != 0
        assert "convkit: there is no workflow profile nowhere (looked for nowhere, profiles/nowhere, " in done.stderr


def test_in_a_clone(user: User) -> None:
    user.path.append(str(Path(sys.executable).parent))
    assert "1 of 1 conversion proved" in user.succeeds(block("In a clone"), user.clone)


def test_in_a_folder_of_its_own(user: User) -> None:
    models = user.home / "models"
    models.mkdir()
    subprocess.run([sys.executable, "-m", "convkit", "fetch", "generated://llama?layers=1", models / "a"], check=True)
    assert "1 of 1 conversion proved" in user.succeeds(block("In a folder of its own"))
    campaign = user.home / "campaign"
    again = "snakemake --cores 2 --snakefile /path/to/convkit/workflow/Snakefile"
    user.path.append(str(Path(sys.executable).parent))
    assert not stages(user.succeeds(again, campaign))
    os.utime(models / "a" / "model.safetensors")
    assert {"a: fetch", "a: convert", "a: equivalence"} <= stages(user.succeeds(again, campaign))
    (target,) = campaign.glob("results/a/target*.mdl")
    with target.open("ab") as file:
        file.write(b"x")
    said = user.succeeds(again, campaign)
    assert {"a: convert", "a: round trip", "a: equivalence"} <= stages(said)
    assert "a: fetch" not in stages(said)
    assert not stages(user.succeeds(again, campaign))


@pytest.fixture
def catalog(user: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """Somebody with conda, for which something stands in where there is none."""
    user.path.insert(0, str(stand_in_conda.install(user.home / "conda")))
    yield user


def test_from_the_workflow_catalog(catalog: User) -> None:
    """Rows of every side, each job in the environment of its side, by the revision that was deployed."""
    deploy, enter, look, run = block("From the workflow catalog, or any git repository").splitlines()
    catalog.succeeds(deploy)
    campaign = catalog.home / "campaign"
    assert (
        'github("OWNER/convkit", path="workflow/Snakefile", tag="v0.1.0")'
        in (campaign / "workflow/Snakefile").read_text()
    )
    write_table(campaign, *ROWS)
    assert of_rows("llama", "t5x", "orbax") <= stages(catalog.succeeds(f"{enter}\n{look}"))
    assert "4 of 4 conversions proved" in catalog.succeeds(f"{enter}\n{run}")
    assert not stages(catalog.succeeds(f"{enter}\n{run}"))
    made = {file.read_text().partition("\n")[0] for file in (campaign / ".snakemake/conda").glob("*.yaml")}
    files = [(ROOT / f"workflow/envs/{name}.yaml").read_text() for name in ("core", "torch", "jax", "orbax")]
    assert made == {file.partition("\n")[0] for file in files}
    catalog.succeeds(block("The report"), campaign)
    assert (campaign / "campaign.zip").stat().st_size > 100_000


def test_within_another_workflow(user: User) -> None:
    """With a prefix, a config of its own, and rules of that workflow that ask for its outputs."""
    user.path.append(str(Path(sys.executable).parent))
    write_table(user.home, REPAIR.replace("old", "llama", 1))
    text = block("Within another workflow", "python").replace("/path/to/convkit", str(user.clone))
    (user.home / "Snakefile").write_text(text)
    (user.home / "given.json").write_text('{"convkit": {"threads": 1}}')
    said = user.succeeds("snakemake --cores 2 --configfile given.json -- convkit_all after")
    assert "1 of 1 conversion proved" in said
    assert "localrules directive" not in said
    assert "target.mdl" in (user.home / "after.txt").read_text()
    assert not (user.home / "results").exists()


TWICE = """\
module first:
    snakefile: {snakefile!r}
    config: {{"checkpoints": "first.tsv"}}
    {first}


use rule * from first as first_*


module second:
    snakefile: {snakefile!r}
    config: {{"checkpoints": "second.tsv"}}
    {second}


use rule * from second as second_*


rule both:
    default_target: True
    input: "first/results/verdict.txt", "second/results/verdict.txt"
"""


def test_twice_within_another_workflow(user: User) -> None:
    user.path.append(str(Path(sys.executable).parent))
    for name in ("first", "second"):
        (user.home / f"{name}.tsv").write_text(
            f"id\tsource\tto\n{name}\tgenerated://cerebras-old?layers=1\tfix-checkpoint-spec\n"
        )
    snakefile = str(user.clone / "workflow/Snakefile")
    apart = TWICE.format(snakefile=snakefile, first='prefix: "first"', second='prefix: "second"')
    (user.home / "Snakefile").write_text(apart)
    user.succeeds("snakemake --cores 2")
    for name in ("first", "second"):
        assert (user.home / name / "results" / name / "target.mdl").exists()
        assert "1 of 1 conversion proved" in (user.home / name / "results/verdict.txt").read_text()
    assert not stages(user.succeeds("snakemake --cores 2"))
    (user.home / "Snakefile").write_text(TWICE.format(snakefile=snakefile, first="", second=""))
    done = user.types("snakemake --cores 2 results/verdict.txt")
    assert done.returncode != 0
    assert "ambiguous" in done.stderr
