"""The config and the table of claims, checked; and what the stages need to know of a row."""

import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path, PurePosixPath

import jsonschema
import yaml

from convkit.cli.claim import check_claim, checks_of, is_one_file, opening_of
from convkit.cli.killed_runs import Run, remove_stale_locks
from convkit.cli.kinds import kind_of
from convkit.cli.output import parse_size
from convkit.cli.report import altered
from convkit.errors import ConvkitError, UsageError
from convkit.fetch import seen_now
from convkit.files.uri import hide_secrets, scheme_of, without_secrets
from convkit.report import build_report, format_table, read_summary, standing
from convkit.report.table import read_rows
from convkit.verify.documents import Described, read_plan
from convkit.verify.equivalence.need import need

# Find the convkit beside the interpreter even if its environment isn't activated.
os.environ.update(PATH=os.pathsep.join([os.getenv("PATH", os.defpath), str(Path(sys.executable).parent)]))

if stale := remove_stale_locks():
    print("convkit: removed the locks of a run that was killed:", *stale, file=sys.stderr)

SCHEMAS = {
    name: yaml.safe_load(Path(workflow.source_path(f"../schemas/{name}.schema.yaml")).read_text())
    for name in ("config", "checkpoints")
}


def refuse(mistake):
    """End with one line: no job was begun, so no trace would help."""
    sys.exit(f"convkit: {hide_secrets(' '.join(str(mistake).split()))}")


def check(document, name, place):
    """Refuse what the schema of that name doesn't allow."""
    schema = SCHEMAS[name]
    for field in schema["required"]:
        if field not in document:
            refuse(f"{place} {field}: is missing")
    for field in document:
        if field not in schema["properties"]:
            refuse(f"{place} {field}: is not known")
    for mistake in jsonschema.Draft202012Validator(schema).iter_errors(document):
        field = mistake.absolute_path[0]
        said = without_secrets(mistake.instance) if field == "source" else mistake.instance
        refuse(f"{place} {field}: {said!r} is not {schema['properties'][field]['description']}")


def read_table(path):
    """The rows of the table of claims by their id."""
    if not Path(path).is_file():
        refuse(f"config: checkpoints: there is no file {path}")
    try:
        table = read_rows(path)
    except UsageError as error:
        refuse(error)
    rows = {}
    for number, row in enumerate(table, start=1):
        place = f"{path}: row {number}, column"
        check(row, "checkpoints", place)
        if row["id"] in rows:
            refuse(f"{place} id: {row['id']!r} is taken by an earlier row")
        if origin(row) and origin(row) not in rows:
            refuse(f"{place} source: {row['source']!r} names no earlier row")
        try:
            check_claim(row)
        except UsageError as error:
            refuse(f"{place} {error}")
        rows[row["id"]] = row
    return rows or refuse(f"{path}: holds no row")


def origin(row):
    """The id of the row whose output this row starts from; None where the source is fetched."""
    return row["source"].removeprefix("row:") if row["source"].startswith("row:") else None


check(config, "config", "config:")
config["results"] = str(PurePosixPath(config["results"]))
config.update({name: int(config[name]) for name in ("threads", "probe_length")})  # 2.0 is a whole number too
ROWS = read_table(config["checkpoints"])
# rows that repair a Cerebras checkpoint, and rows that convert to a layout
REPAIRS = [id for id, row in ROWS.items() if kind_of(row) == "repair"]
CONVERSIONS = [id for id in ROWS if id not in REPAIRS]
# the checks that are made of each row, with the options that the row gives to their commands
CHECKS = {id: checks_of(row) for id, row in ROWS.items()}


def checked_by(check):
    """The rows of which a check is made."""
    return [id for id in ROWS if check in CHECKS[id]]


def equivalence_settings(wildcards):
    """How the models of a row are run: the options of ``convkit equivalence`` by name."""
    given = CHECKS[wildcards.id]["equivalence"]
    return {"probe-length": config["probe_length"], "threads": config["threads"]} | given


def equivalence_options(wildcards):
    """The same as arguments, apart from the threads, whose number Snakemake decides."""
    return [f"--{name}={value}" for name, value in equivalence_settings(wildcards).items() if name != "threads"]


def any_of(ids):
    """A wildcard's constraint: one of these ids."""
    return "|".join(ids) or "(?!)"


def target_of(id):
    """Where a row's output lies. A single file has the ending by which its format is recognised."""
    return f"{config['results']}/{id}/target{'.mdl' if is_one_file(ROWS[id]) else ''}"


def target(wildcards):
    """Where this row's output lies."""
    return target_of(wildcards.id)


def source(wildcards):
    """What the stages of this row read: another row's output, or what the record of the fetch describes."""
    before = origin(ROWS[wildcards.id])
    return target_of(before) if before else f"{config['results']}/{wildcards.id}/fetch.json"


def fetched(wildcards):
    """Where a source is brought; a file keeps its suffix, by which formats are recognised."""
    return f"{config['results']}/{wildcards.id}/source{suffix_of(ROWS[wildcards.id]['source'])}"


def seen_source(wildcards):
    """What changes when a source on this machine does, so that it is fetched again."""
    record = Path(config["results"], wildcards.id, "fetch.json")
    return seen_now(ROWS[wildcards.id]["source"], record)


def suffix_of(source):
    """The ending of a file's name; nothing where it has none, or one that no format has."""
    if scheme_of(source):
        source = source.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2]
    suffix = PurePosixPath(source).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9_]{1,20}", suffix) else ""


def source_record(wildcards):
    """The document that shows that the source is there."""
    before = origin(ROWS[wildcards.id])
    return f"<results>/{before}/convert.json" if before else "<results>/{id}/fetch.json"


def claimed_source(wildcards):
    """What changes with a row's source. The source itself may hold a password, and Snakemake records parameters."""
    row = ROWS[wildcards.id]
    return hashlib.sha256(json.dumps([row["source"], row["sha256"]]).encode()).hexdigest()


def again(wildcards):
    """Why an output must be made again although its row is the same: a file of it is gone, or was changed since.

    That is noted, and the note stands until another reason is found: what a job was given must not change once it has
    mended the output, otherwise it would be done a second time.
    """
    folder = Path(config["results"], wildcards.id)
    document, note = folder / "convert.json", folder / "again.txt"
    if document.exists() and (reason := damage(document)):
        note.write_text(reason, encoding="utf-8")
    return note.read_text(encoding="utf-8") if note.exists() else ""


def damage(document):
    """What is wrong with an output, by its receipt; None if nothing is. The time makes it another reason each time.

    Bytes are read only where nothing but a file's time of change differs, as after a copy of the results.
    """
    try:
        wrong = next(standing.stale(document.parent, {"convert": json.loads(document.read_bytes())}, altered), None)
    except (ValueError, AttributeError, KeyError):
        wrong = f"{document.name} is damaged"
    return wrong and f"{wrong} ({document.stat().st_mtime_ns})"


def request(wildcards):
    """What a row asks of its conversion, as arguments of ``convkit plan`` and ``convkit convert``."""
    row = ROWS[wildcards.id]
    columns = [word for name in ("to", "from", "format") if row[name] for word in (f"--{name}", row[name])]
    return columns + shlex.split(row["options"])


def repairing(wildcards):
    """The command of a repair. A checkpoint that is healthy is copied: who starts from this row finds it."""
    row = ROWS[wildcards.id]
    ends = {
        "fix-checkpoint-spec": [source(wildcards), "--fixed_checkpoint_path", target(wildcards), "--copy-healthy"],
        "data-iter-state": ["--old_checkpoint", source(wildcards), "--output_file", target(wildcards)],
    }
    return [row["to"], *ends[row["to"]], *shlex.split(row["options"])]


def opening(wildcards):
    """Those options of a row that say how its source is opened, which every stage needs to know."""
    return opening_of(ROWS[wildcards.id])


RUN = None


def begin_run():
    """Record this run, so that the next one knows what it left if it is killed."""
    global RUN
    RUN = Run(getattr(workflow.persistence, "_lockfile", {}).values())


def end_run():
    """Forget this run."""
    if RUN:
        RUN.end()


def report_failure():
    """Write the page of a campaign that ended with an error, and print its table."""
    try:
        page = build_report(Path(config["results"]), table=Path(config["checkpoints"]), judge=altered)
        print(format_table(read_summary(page.with_name("summary.json"))), page, sep="\n", file=sys.stderr, flush=True)
    except ConvkitError as error:
        print(f"convkit: {hide_secrets(str(error))}", file=sys.stderr)


def planned(figure, *, factor=1.0, atleast=0):
    """A resource out of the plan's summary: megabytes of one of its figures."""

    def resource(wildcards, input):
        summary = json.loads(Path(input.plan).read_text())["summary"]
        return atleast + int(factor * summary[figure] / 1e6)

    return resource


def equivalence_need(wildcards, input):
    """What the equivalence check of a conversion needs, out of the plan; None for a migration, whose plan is another."""
    if kind_of(ROWS[wildcards.id]) != "conversion":
        return None
    settings = equivalence_settings(wildcards)
    return need(
        read_plan(Described, json.loads(Path(input.plan).read_text())),
        positions=int(settings["probe-length"]),
        threads=int(settings["threads"]),
        faults=settings.get("faults", "spread"),
    )


def equivalence_memory(wildcards, input):
    """Megabytes for an equivalence check: those that the row allows, otherwise those that it will need."""
    if allowed := equivalence_settings(wildcards).get("memory"):
        return 1 + parse_size(allowed) // 1_000_000
    predicted = equivalence_need(wildcards, input)
    return (
        1 + predicted.memory // 1_000_000
        if predicted
        else planned("bytes_read", factor=4, atleast=2000)(wildcards, input)
    )


def equivalence_minutes(wildcards, input):
    """Run time of an equivalence check."""
    predicted = equivalence_need(wildcards, input)
    return 10 + int(predicted.seconds / 60) if predicted else minutes(wildcards, input)


def minutes(wildcards, input):
    """Run time out of the plan: a slow disk's pace, and time to start."""
    summary = json.loads(Path(input.plan).read_text())["summary"]
    return 10 + int((summary["bytes_read"] + summary["bytes_written"]) / 20e6 / 60)
