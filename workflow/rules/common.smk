"""The config and the table of claims, checked; and what the stages need to know of a row."""

import hashlib
import json
import os
import re
import shlex
import sys
import time
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


#: what runs a stage
RUNNER = workflow.source_path("../scripts/stage.sh")
#: how the document of a stage begins that ended with an error
ERROR = '"convkit.error/1"'
STAGES = ("fetch", "inspect", "plan", "convert", "roundtrip", "equivalence")


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
# In a module with a prefix, paths of rules are changed by themselves; those that are parameters aren't.
RESULTS = str(workflow.modifier.modify_path(config["results"]))
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
    return "|".join(map(re.escape, ids)) or "(?!)"


def target_of(id):
    """Where a row's output lies. A single file has the ending by which its format is recognised."""
    return f"{RESULTS}/{id}/target{'.mdl' if is_one_file(ROWS[id]) else ''}"


def target(wildcards):
    """Where this row's output lies."""
    return target_of(wildcards.id)


def source(wildcards):
    """What the stages of this row read: another row's output, or what the record of the fetch describes."""
    before = origin(ROWS[wildcards.id])
    return target_of(before) if before else f"{RESULTS}/{wildcards.id}/fetch.json"


def fetched(wildcards):
    """Where a source is brought; a file keeps its suffix, by which formats are recognised."""
    return f"{RESULTS}/{wildcards.id}/source{suffix_of(ROWS[wildcards.id]['source'])}"


def seen_source(wildcards):
    """What changes when a source on this machine does, so that it is fetched again."""
    return seen_now(ROWS[wildcards.id]["source"], Path(RESULTS, wildcards.id, "fetch.json"))


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


def runner(wildcards, output):
    """What runs a stage. A parameter that depends on the output isn't compared, so this clone may be moved."""
    return RUNNER


def again(stage):
    """Why a stage must be carried out again although its row is the same, as a parameter.

    It ended with an error; or it converts, and a file of the output is gone, or was changed since. That is noted, and
    the note stands until another reason is found: what a job was given must not change once it has mended the
    output, otherwise it would be done a second time.
    """

    def reason(wildcards):
        folder = Path(RESULTS, wildcards.id)
        document = folder / f"{stage}.json"
        note = folder / ("again.txt" if stage == "convert" else f"logs/{stage}.again")
        if document.exists() and (why := error_in(document) or (damage(document) if stage == "convert" else None)):
            note.write_text(why, encoding="utf-8")
        return note.read_text(encoding="utf-8") if note.exists() else ""

    return reason


def error_in(document):
    """The error that a stage left as its document, and when; None where it left what it was asked for."""
    with document.open(encoding="utf-8", errors="replace") as opened:
        failed = ERROR in opened.read(60)
    return f"it ended with an error ({document.stat().st_mtime_ns})" if failed else None


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
    read, written = source(wildcards), target(wildcards)
    ends = {
        "fix-checkpoint-spec": [read, "--fixed_checkpoint_path", written, "--copy-healthy"],
        "data-iter-state": ["--old_checkpoint", read, "--output_file", written],
    }
    return [row["to"], *ends[row["to"]], *shlex.split(row["options"])]


def opening(wildcards):
    """Those options of a row that say how its source is opened, which every stage needs to know."""
    return opening_of(ROWS[wildcards.id])


RUN = BEGAN = None


def begin_run():
    """Record this run, so that the next one knows what it left if it is killed."""
    global RUN, BEGAN
    BEGAN = time.time()
    RUN = Run(getattr(workflow.persistence, "_lockfile", {}).values())
    Path(RESULTS, "logs", "verdict.log").unlink(missing_ok=True)


def end_run():
    """Forget this run."""
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
    try:
        page = build_report(Path(RESULTS), table=Path(config["checkpoints"]), judge=altered)
        print(format_table(read_summary(page.with_name("summary.json"))), page, sep="\n", file=sys.stderr, flush=True)
    except ConvkitError as error:
        print(f"convkit: {hide_secrets(str(error))}", file=sys.stderr)


def summary_of(plan):
    """A plan's figures; None where the plan stage ended with an error, so that nothing will be done."""
    return json.loads(Path(plan).read_text(encoding="utf-8")).get("summary")


def planned(figure, *, factor=1.0, atleast=0):
    """A resource out of the plan's summary: megabytes of one of its figures."""

    def resource(wildcards, input):
        summary = summary_of(input.plan)
        return atleast + int(factor * summary[figure] / 1e6) if summary else atleast

    return resource


def equivalence_need(wildcards, input):
    """What the equivalence check of a conversion needs, out of the plan; None for a migration, whose plan is another."""
    if kind_of(ROWS[wildcards.id]) != "conversion" or not summary_of(input.plan):
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
    summary = summary_of(input.plan)
    return 10 + int((summary["bytes_read"] + summary["bytes_written"]) / 20e6 / 60) if summary else 10
