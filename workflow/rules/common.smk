"""The config and the table of claims, checked; and what the stages need to know of a row."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import jsonschema
import yaml

# Find the convkit beside the interpreter even if its environment isn't activated.
os.environ.update(PATH=os.pathsep.join([os.getenv("PATH", os.defpath), str(Path(sys.executable).parent)]))


def module(name):
    """A module of the folder scripts, which may lie on the web."""
    # Snakemake's paths are texts of a kind of their own, which Python can't write into what it compiles
    path = str(workflow.source_path(f"../scripts/{name}.py"))
    spec = importlib.util.spec_from_file_location(f"convkit_{name}", path)
    found = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def shipped(path):
    """A document that lies beside the rules."""
    text = Path(workflow.source_path(f"../{path}")).read_text(encoding="utf-8")
    return json.loads(text) if path.endswith(".json") else yaml.safe_load(text)


cells = module("cells")
claims = module("claims")
origin = claims.origin
environments = module("environments")
standing = module("standing")
killed_runs = module("killed_runs")
worker = module("worker")
if stale := killed_runs.remove_stale_locks():
    print("convkit: removed the locks of a run that was killed:", *stale, file=sys.stderr)
#: what runs a stage
RUNNER = workflow.source_path("../scripts/stage.sh")
#: what makes a column of the matrix
COLUMN_SCRIPT = workflow.source_path("../scripts/column.sh")
#: how the document of a stage begins that ended with an error
ERROR = '"convkit.error/1"'
STAGES = ("fetch", "inspect", "plan", "convert", "roundtrip", "equivalence")


#: what the config says where it says nothing
DEFAULTS = {
    "checkpoints": "config/checkpoints.tsv",
    "results": "results",
    "threads": 2,
    "digest": "xxh3-128",
    "probe_length": 256,
    "baselines": "baselines",
}


def refuse(mistakes):
    """End with a line for each mistake: no job was begun, so no trace would help."""
    sys.exit("\n".join(f"convkit: {cells.masked(mistake)}" for mistake in mistakes))


def words(value):
    """A text, or several, as a list."""
    return [value] if isinstance(value, str) else value


def public_keys():
    """The keys by which the evidence is checked: those that the config names, or the other half of the one that signs."""
    return words(config.get("public_keys", config["signing_key"].removesuffix(".pem") + ".pub.pem"))


def check_config():
    """Refuse a config that its schema doesn't allow, and make its values what the rules use."""
    schema = shipped("schemas/config.schema.yaml")
    known = schema["properties"]
    mistakes = [f"config: {name}: is not known{cells.near(name, known)}" for name in config if name not in known]
    config.update({name: value for name, value in DEFAULTS.items() if name not in config})
    for mistake in jsonschema.Draft202012Validator(schema).iter_errors(config):
        if mistake.absolute_path:
            name = mistake.absolute_path[0]
            mistakes.append(f"config: {name}: {mistake.instance!r} is not {known[name]['description']}")
    columns = config.get("matrix", {}) if not mistakes else {}
    mistakes += [f"config: matrix: there is no file {path}" for path in columns.values() if not Path(path).is_file()]
    named = ("checkpoints", "signing_key", "public_keys", "policy") if not mistakes else ()
    files = [(name, path) for name in named if name in config for path in words(config[name])]
    if "signing_key" in config and "public_keys" not in config and not mistakes:
        files += [("public_keys", path) for path in public_keys()]
    mistakes += [f"config: {name}: there is no file {path}" for name, path in files if not Path(path).is_file()]
    if mistakes:
        refuse(mistakes)
    config["results"] = str(PurePosixPath(config["results"]))
    config.update({name: int(config[name]) for name in ("threads", "probe_length")})  # 2.0 is a whole number too


def others():
    """Whether other packages bring something to convkit."""
    groups = ("mappings", "formats", "generate", "oracles")
    return any(importlib.metadata.entry_points(group=f"convkit.{group}") for group in groups)


def known():
    """What cells may name: what convkit has, and what other packages bring to it, if any are installed."""
    if not others():
        return shipped("known.json")
    asked = subprocess.run([sys.executable, "-m", "convkit.cli.known"], capture_output=True, text=True)
    if asked.returncode:
        refuse([f"what is installed can't be listed: {asked.stderr.strip().rpartition(chr(10))[2]}"])
    return json.loads(asked.stdout)


def is_here(id, path):
    """Whether what a row needs is there: or was before it was fetched, or will be in the results."""
    record = Path(RESULTS, id, "fetch.json")
    below = Path(path).absolute().is_relative_to(Path(RESULTS).absolute())
    try:
        return below or os.path.lexists(path) or (record.exists() and not error_in(record))
    except (OSError, ValueError):  # no path at all: it is too long, or holds a null byte
        return False


def read_table(path):
    """The table of claims, of which every row is right."""
    schema = shipped("schemas/checkpoints.schema.yaml")
    try:
        rows = cells.read(path, list(schema["properties"]))
    except cells.CellError as error:
        refuse(f"{path}: {line}" for line in str(error).splitlines())
    table = claims.Table(known(), schema, is_here, RESULTS)
    mistakes = [
        f"{path}: row {number}, column {column}: {mistake}"
        for number, row in enumerate(rows, start=1)
        for column, mistake in table.add(row)
    ]
    if mistakes or not rows:
        refuse(mistakes or [f"{path}: holds no row"])
    return table


def error_in(document):
    """The error that a stage left as its document, and when; None where it left what it was asked for."""
    with document.open(encoding="utf-8", errors="replace") as opened:
        failed = ERROR in opened.read(60)
    return f"it ended with an error ({document.stat().st_mtime_ns})" if failed else None


def parted():
    """The rows that are converted in parts, each with their number.

    It follows from the config and from the sources on this machine, never from what the campaign has made by now, so
    that every run has the same jobs.
    """
    asked = config.get("parts", {})
    named, above = asked.get("rows", []), cells.size(asked["above"]) if "above" in asked else None
    conversions = [id for id in CONVERSIONS if claims.kind_of(ROWS[id], TABLE.known) == "conversion"]
    if wrong := [id for id in named if id not in conversions]:
        refuse(f"config: parts: {id} is no row that converts{cells.near(id, conversions)}" for id in wrong)
    return {id: asked["into"] for id in conversions if id in named or (above is not None and is_above(id, above))}


def is_above(id, size):
    """Whether the source of a row is on this machine and larger."""
    path = claims.local_path(ROWS[id]["source"])
    return bool(path) and size_below(Path(path)) > size


def size_below(path):
    """The bytes of a file, or of all files in a folder; 0 where there is none."""
    if path.is_dir():
        return sum(size_below(inner) for inner in path.iterdir())
    return path.stat().st_size if path.is_file() else 0


check_config()
# In a module with a prefix, paths of rules are changed by themselves; those that are parameters aren't.
RESULTS = str(workflow.modifier.modify_path(config["results"]))
TABLE = read_table(config["checkpoints"])
ROWS = TABLE.rows
# rows that repair a Cerebras checkpoint, and rows that convert to a layout
REPAIRS = [id for id, row in ROWS.items() if claims.kind_of(row, TABLE.known) == "repair"]
CONVERSIONS = [id for id in ROWS if id not in REPAIRS]
# rows whose source is removed once they are proved
PASSING = [id for id, row in ROWS.items() if row["keep"] == "no"]
# rows that are converted in parts, and in how many
PARTED = parted()
# the checks that are made of each row, with the options that the row gives to their commands
CHECKS = {id: TABLE.checks_of(row) for id, row in ROWS.items()}


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


def documents():
    """What all stages of all rows leave: named by whatever must not end before one that was deleted is made again."""
    stages = expand("<results>/{id}/{stage}.json", id=ROWS, stage=["inspect", "plan", "convert"])
    return stages + [f"<results>/{id}/{check}.json" for id in ROWS for check in CHECKS[id]]


def signed_rows():
    """The marks of rows that were signed, where the config names a key."""
    return expand("<results>/{id}/signed.json", id=ROWS) if "signing_key" in config else []


def audited():
    """The outcome of checking the evidence, where the config names a key."""
    return ["<results>/audit.txt"] if "signing_key" in config else []


def responsible(wildcards):
    """Who stands for what is signed, as an argument."""
    return [f"--responsible={config['responsible']}"] if "responsible" in config else []


def history():
    """The folder of baselines as an argument, if any is there."""
    return [f"--baselines={config['baselines']}"] if baselines() else []


def baselines():
    """The baselines that are there; a new one, or one that was accepted, makes the page again."""
    return [local(str(path)) for path in sorted(Path(config["baselines"]).glob("*.json"))]


def column_config(column):
    """The config of a campaign under other versions: the same, in results of its own, without keys."""
    kept = {name: config[name] for name in DEFAULTS}
    return kept | {"results": f"{config['results']}/matrix/{column}/results", "baselines": f"no-baselines-of-{column}"}


def any_of(ids):
    """A wildcard's constraint: one of these ids."""
    return "|".join(map(re.escape, ids)) or "(?!)"


def target_of(id):
    """Where a row's output lies. A single file has the ending by which its format is recognised."""
    return ROWS[id]["target"] or f"{RESULTS}/{id}/target{'.mdl' if TABLE.is_one_file(ROWS[id]) else ''}"


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


def suffix_of(source):
    """The ending of a file's name; nothing where it has none, or one that no format has."""
    if "://" in source:
        source = source.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2]
    suffix = PurePosixPath(source).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9_]{1,20}", suffix) else ""


def source_record(wildcards):
    """The document that shows that the source is there."""
    before = origin(ROWS[wildcards.id])
    return f"<results>/{before}/convert.json" if before else "<results>/{id}/fetch.json"


def source_here(wildcards):
    """What shows that a source is there that won't be kept."""
    return f"<results>/{wildcards.id}/source.here" if wildcards.id in PASSING else []


def proofs(wildcards):
    """The documents of all that is asked of a row."""
    return [f"<results>/{wildcards.id}/{stage}.json" for stage in ("inspect", "convert", *CHECKS[wildcards.id])]


def claimed_source(wildcards):
    """What changes with a row's source. The source itself may hold a password, and Snakemake records parameters."""
    row = ROWS[wildcards.id]
    return hashlib.sha256(
        json.dumps([row["source"], row["sha256"], *(["stream"] if row["fetch"] == "stream" else [])]).encode()
    ).hexdigest()


def runner(wildcards, output):
    """What runs a stage, and for a small one its environment. A parameter that depends on the output isn't compared, so this clone may be moved."""
    if not has_small_stages(wildcards.id):
        return [RUNNER]
    begin_group()
    return [RUNNER, f"--small={environments.serving(Path(output[0]).stem, ROWS[wildcards.id], TABLE.known)}"]


def alone(wildcards, output):
    """The same for a stage that may ask for a passphrase, which needs the terminal."""
    return [RUNNER]


def column_script(wildcards, output):
    """What makes a column; as :func:`runner`, no reason to make it again."""
    return COLUMN_SCRIPT


def again(stage):
    """Why a stage must be carried out again although its row is the same, as a parameter.

    It ended with an error; or it fetches, and a source on this machine was changed since; or it converts, and a file of
    the output is gone, or was changed since. That is noted, and the note stands until another reason is found: what a
    job was given must not change once it has mended the output, otherwise it would be done a second time.
    """
    found = {"fetch": changed_source, "convert": damaged}.get(stage, lambda document: None)

    def reason(wildcards):
        folder = Path(RESULTS, wildcards.id)
        document = folder / f"{stage}.json"
        note = folder / ("again.txt" if stage == "convert" else f"logs/{stage}.again")
        if document.exists() and (why := error_in(document) or found(document)):
            note.parent.mkdir(exist_ok=True)
            note.write_text(why, encoding="utf-8")
        return note.read_text(encoding="utf-8") if note.exists() else ""

    return reason


def changed_source(document):
    """That the source of a row isn't the one that was fetched any more, where it lies on this machine."""
    source = ROWS[document.parent.name]["source"]
    path = claims.local_path(source)
    return standing.changed_source(document, source, path) if path or source.startswith("package://") else None


def damaged(document):
    """What is wrong with the output of a row."""
    return standing.damage(document, Path(target_of(document.parent.name)))


def request(wildcards, plan=False):
    """What a row asks of its conversion, as arguments of ``convkit convert``, or of ``convkit plan``."""
    row = ROWS[wildcards.id]
    columns = [word for name in ("to", "from", "format") if row[name] for word in (f"--{name}", row[name])]
    return columns + TABLE.words_for(row, plan=plan)


def plan_request(wildcards):
    """The same without what doesn't change the plan."""
    return request(wildcards, plan=True)


def repairing(wildcards):
    """The command of a repair. A checkpoint that is healthy is copied: who starts from this row finds it."""
    row = ROWS[wildcards.id]
    read, written = source(wildcards), target(wildcards)
    ends = {
        "fix-checkpoint-spec": [read, "--fixed_checkpoint_path", written, "--copy-healthy"],
        "data-iter-state": ["--old_checkpoint", read, "--output_file", written],
    }
    return [row["to"], *ends[row["to"]], *TABLE.words_for(row, plan=False)]


def opening(wildcards):
    """Those options of a row that say how its source is opened, which every stage needs to know."""
    asked = vars(TABLE.asked(ROWS[wildcards.id]))
    given = {"--config": asked.get("config"), "--source-format": asked.get("source_format")}
    return [f"{option}={value}" for option, value in given.items() if value is not None]


def parts_of(wildcards, check=""):
    """The documents of the parts of a row's conversion, or of a check of it."""
    return [f"<results>/{wildcards.id}/parts/{check}{number}.json" for number in range(1, PARTED[wildcards.id] + 1)]
