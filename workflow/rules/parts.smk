# One conversion in several jobs, on as many nodes of a cluster: of the rows that the config's `parts` names, or whose
# source is large. The number of parts is in the config, so that a dry run shows every job. The first job begins the
# set, in place of what an earlier plan may have left; each part writes its share into the staged output beside the
# target; the last one reads that back, and publishes it. A part that was killed goes on where it was.
#
# On a cluster each of these jobs is submitted alone.
rule begin_parts:
    input:
        source=source_record,
        here=source_here,
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/parts/begun.json",
    log:
        "<logs>/begin_parts.log",
    wildcard_constraints:
        id=any_of(PARTED),
    conda:
        environment("convert")
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        disk_mb=planned("bytes_written", atleast=50),
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        source=source,
        target=target,
        request=request,
        digest=config["digest"],
        parts=lambda wildcards: PARTED[wildcards.id],
        runner=runner,
        again=again("convert"),
    message:
        "{wildcards.id}: begin {params.parts} parts"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit convert {params.source:q} {params.target:q} {params.request:q} --digest {params.digest:q}"
        " --part 0/{params.parts:q} --overwrite --json"


rule part:
    input:
        source=source_record,
        here=source_here,
        begun="<results>/{id}/parts/begun.json",
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/parts/{part}.json",
    log:
        "<logs>/part-{part}.log",
    benchmark:
        "<benchmarks>/part-{part}.tsv"
    wildcard_constraints:
        id=any_of(PARTED),
        part=r"\d+",
    conda:
        environment("convert")
    threads: config["threads"]
    resources:
        mem_mb=planned("peak_bytes", factor=max(1, config["threads"] / 2), atleast=1000),
        runtime=part_minutes,
    params:
        source=source,
        target=target,
        request=request,
        digest=config["digest"],
        parts=lambda wildcards: PARTED[wildcards.id],
        runner=runner,
    message:
        "{wildcards.id}: part {wildcards.part} of {params.parts}"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit convert {params.source:q} {params.target:q} {params.request:q} --digest {params.digest:q}"
        " --part {wildcards.part:q}/{params.parts:q} --threads {threads:q} --overwrite --json"


rule finish_parts:
    input:
        source=source_record,
        here=source_here,
        parts=parts_of,
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/convert.json",
    log:
        "<logs>/convert.log",
    benchmark:
        "<benchmarks>/convert.tsv"
    wildcard_constraints:
        id=any_of(PARTED),
    conda:
        environment("convert")
    threads: config["threads"]
    resources:
        mem_mb=planned("peak_bytes", factor=max(1, config["threads"] / 2), atleast=1000),
        runtime=minutes,
    params:
        source=source,
        target=target,
        request=request,
        digest=config["digest"],
        runner=runner,
        again=again("convert"),
    message:
        "{wildcards.id}: check the parts, and publish"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit convert {params.source:q} {params.target:q} {params.request:q} --digest {params.digest:q}"
        " --finish --threads {threads:q} --overwrite --json"


# The round trip is shared out in the same way.
rule roundtrip_part:
    input:
        source=source_record,
        here=source_here,
        converted="<results>/{id}/convert.json",
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/parts/roundtrip-{part}.json",
    log:
        "<logs>/roundtrip-{part}.log",
    benchmark:
        "<benchmarks>/roundtrip-{part}.tsv"
    wildcard_constraints:
        id=any_of(PARTED),
        part=r"\d+",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=planned("peak_bytes", factor=2, atleast=1000),
        runtime=part_minutes,
    params:
        source=source,
        target=target,
        opening=opening,
        parts=lambda wildcards: PARTED[wildcards.id],
        runner=runner,
        again=again("roundtrip"),
    message:
        "{wildcards.id}: round trip, part {wildcards.part} of {params.parts}"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit roundtrip {params.source:q} {params.target:q} {params.opening:q}"
        " --part {wildcards.part:q}/{params.parts:q} --json --no-fail"


use rule roundtrip as finish_roundtrip with:
    input:
        source=source_record,
        here=source_here,
        converted="<results>/{id}/convert.json",
        parts=lambda wildcards: parts_of(wildcards, "roundtrip-"),
        plan="<results>/{id}/plan.json",
    wildcard_constraints:
        id=any_of(id for id in PARTED if id in checked_by("roundtrip")),
    params:
        source=source,
        target=target,
        opening=lambda wildcards: [*opening(wildcards), "--finish"],
        runner=runner,
        again=again("roundtrip"),
    message:
        "{wildcards.id}: round trip, of all parts"


# The equivalence check is shared out by the stages of the model. A part runs both models through the stages before its
# own, or begins with what a part that has ended left beside the target.
rule equivalence_part:
    input:
        source=source_record,
        here=source_here,
        converted="<results>/{id}/convert.json",
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/parts/equivalence-{part}.json",
    log:
        "<logs>/equivalence-{part}.log",
    benchmark:
        "<benchmarks>/equivalence-{part}.tsv"
    wildcard_constraints:
        id=any_of(id for id in PARTED if id in checked_by("equivalence")),
        part=r"\d+",
    conda:
        environment("equivalence")
    threads: lambda wildcards: int(equivalence_settings(wildcards)["threads"])
    resources:
        mem_mb=equivalence_memory,
        runtime=equivalence_part_minutes,
    params:
        source=source,
        target=target,
        opening=opening,
        options=equivalence_options,
        parts=lambda wildcards: PARTED[wildcards.id],
        runner=runner,
        again=again("equivalence"),
    message:
        "{wildcards.id}: equivalence, part {wildcards.part} of {params.parts}"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit equivalence {params.source:q} {params.target:q} {params.opening:q} {params.options:q}"
        " --part {wildcards.part:q}/{params.parts:q} --threads {threads:q} --json --no-fail"


use rule equivalence as finish_equivalence with:
    input:
        source=source_record,
        here=source_here,
        converted="<results>/{id}/convert.json",
        parts=lambda wildcards: parts_of(wildcards, "equivalence-"),
        plan="<results>/{id}/plan.json",
    wildcard_constraints:
        id=any_of(id for id in PARTED if id in checked_by("equivalence")),
    params:
        source=source,
        target=target,
        opening=opening,
        options=lambda wildcards: [*equivalence_options(wildcards), "--finish"],
        threads=equivalence_threads,
        runner=runner,
        again=again("equivalence"),
    message:
        "{wildcards.id}: equivalence, of all parts"
