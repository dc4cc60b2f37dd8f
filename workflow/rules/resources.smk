"""What a job asks for, out of the plan of its row; and on a cluster, which jobs are submitted together.

A job that was killed for want of memory or time is tried again with as much again, for each attempt.
"""

import math
import mmap

#: bytes of a source up to which its row is small, and up to which its stages have little to do for a second thread
SMALL, TINY = 1_000_000_000, 50_000_000


def depth(id):
    """How many rows a row's source has passed through."""
    before = origin(ROWS[id])
    return 1 + depth(before) if before else 0


@functools.cache
def known_bytes(id):
    """The bytes of a row's source: none if it is made here, and infinitely many if the web has it."""
    row = ROWS[id]
    if before := origin(row):
        return known_bytes(before)
    path = claims.local_path(row["source"])
    if not path:
        return 0 if row["source"].lower().startswith(("generated://", "package://")) else math.inf
    files = [path, *(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)]
    return sum(os.stat(file).st_size for file in files if os.path.isfile(file))


def is_small(id):
    """Whether a row's source is known to be small."""
    return known_bytes(id) <= SMALL


def has_small_stages(id):
    """Whether the stages of a row take less than what they import."""
    return is_small(id) and id not in PARTED


def conversion_threads(wildcards, output=None):
    """The threads of a conversion; as a parameter not compared, because it depends on the output: see ``runner``."""
    return allowed_threads(config["threads"])


def equivalence_threads(wildcards, output=None):
    """The threads of an equivalence check, as :func:`conversion_threads`."""
    return allowed_threads(equivalence_settings(wildcards)["threads"])


def allowed_threads(asked):
    """The same, but not more than Snakemake may use cores."""
    return min(int(asked), workflow.resource_settings.cores or int(asked))


def cores(threads):
    """The cores for which a stage of so many threads counts: on this machine, one in a tiny row; on a cluster, all."""

    def counted(wildcards):
        here = workflow.local_exec and not workflow.remote_exec
        return 1 if here and known_bytes(wildcards.id) <= TINY else threads(wildcards)

    return counted


def together(part):
    """The name of the group in which a part of a row is submitted to a cluster: ``prepare`` or ``prove``.

    The plan says what the other stages need, so it is there before they are submitted: these are two groups. Small
    rows have the same names, apart from rows that read their output, so ``--group-components`` joins several.
    """

    def group(wildcards):
        small = has_small_stages(wildcards.id)
        return f"{part}_{depth(wildcards.id)}" if small else f"{part}_row_{wildcards.id}"

    return group


def reading(wildcards, attempt):
    """Megabytes to look at a source: a plan of a few hundred thousand tensors takes a gigabyte."""
    return attempt * (500 if is_small(wildcards.id) else 2000)


def entry_of(plan, name):
    """An entry of a plan; None where the plan stage ended with an error, so that nothing will be done.

    A huge plan isn't parsed, which would take gigabytes: in what convkit writes, the document's own entries stand on
    lines that begin with one space.
    """
    begins = f'\n "{name}": '.encode()
    with open(plan, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = text.rfind(begins)
        if found < 0:
            return json.loads(text[:]).get(name)
        return json.JSONDecoder().raw_decode(text[found + len(begins) :].decode())[0]


@functools.cache
def read_entry(plan, name, changed):
    """The same, as long as the plan wasn't changed."""
    return entry_of(plan, name)


def figures(input, name):
    """An entry of the plan of a job."""
    return read_entry(input.plan, name, os.stat(input.plan).st_mtime_ns)


def planned(figure, *, factor=1.0, atleast=0):
    """A resource out of the plan's summary: megabytes of one of its figures."""

    def resource(wildcards, input, attempt):
        summary = figures(input, "summary")
        return attempt * (atleast + int(factor * summary[figure] / 1e6) if summary else atleast)

    return resource


def equivalence_need(wildcards, input):
    """What an equivalence check needs, out of the plan, for an input as long as the row's; None where it doesn't say."""
    length = int(equivalence_settings(wildcards)["probe-length"])
    return next((entry for entry in figures(input, "equivalence") or [] if entry["positions"] >= length), None)


def equivalence_memory(wildcards, input, attempt):
    """Megabytes for an equivalence check: those that the row allows, otherwise those that it will need."""
    if allowed := equivalence_settings(wildcards).get("memory"):
        return attempt * (1 + cells.size(allowed) // 1_000_000)
    if foreseen := equivalence_need(wildcards, input):
        return attempt * (1 + foreseen["memory"] // 1_000_000)
    return planned("bytes_read", factor=4, atleast=2000)(wildcards, input, attempt)


def equivalence_minutes(wildcards, input, attempt):
    """Run time of an equivalence check."""
    foreseen, settings = equivalence_need(wildcards, input), equivalence_settings(wildcards)
    if not foreseen:
        return minutes(wildcards, input, attempt)
    computing = foreseen["computing"][settings.get("faults", "spread")] / int(settings["threads"])
    return attempt * (10 + int((foreseen["start"] + computing) / 60))


def equivalence_part_minutes(wildcards, input, attempt):
    """Run time of a part of an equivalence check: its share, and both models up to there, which is at most a third."""
    return attempt * 10 + int(equivalence_minutes(wildcards, input, attempt) * (1 / PARTED[wildcards.id] + 1 / 3))


def minutes(wildcards, input, attempt):
    """Run time out of the plan: a slow disk's pace, and time to start."""
    summary = figures(input, "summary")
    moved = summary["bytes_read"] + summary["bytes_written"] if summary else 0
    return attempt * (10 + int(moved / 20e6 / 60))


def part_minutes(wildcards, input, attempt):
    """Run time of a part, out of the plan."""
    return attempt * 10 + minutes(wildcards, input, attempt) // PARTED[wildcards.id]
