# A large checkpoint on this machine is read where it lies: its record says where, and shows whether it was changed.
# The command looks up the source in the table: words of a rule are printed and recorded.
rule fetch:
    output:
        record="<results>/{id}/fetch.json",
    log:
        "<logs>/fetch.log",
    benchmark:
        "<benchmarks>/fetch.tsv"
    wildcard_constraints:
        id=any_of(id for id in ROWS if id not in PASSING),
    group:
        together("prepare")
    conda:
        environment("fetch")
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        table=lambda wildcards: config["checkpoints"],
        path=fetched,
        runner=runner,
        again=again("fetch"),
        claimed=claimed_source,
    message:
        "{wildcards.id}: fetch"
    shell:
        "bash {params.runner:q} {output.record:q} {log:q} --"
        " convkit fetch {params.table:q} {params.path:q} --row {wildcards.id:q} --in-place --overwrite --json"


# A source that isn't kept: Snakemake removes the mark once no stage needs it any more, and has it fetched again if one
# does later.
use rule fetch as fetch_for_now with:
    output:
        record="<results>/{id}/fetch.json",
        mark=temp(touch("<results>/{id}/source.here")),
    wildcard_constraints:
        id=any_of(PASSING),


rule forget:
    input:
        record="<results>/{id}/fetch.json",
        mark="<results>/{id}/source.here",
        proofs=proofs,
    output:
        "<results>/{id}/forgotten.txt",
    log:
        "<logs>/forget.log",
    wildcard_constraints:
        id=any_of(PASSING),
    group:
        together("prove")
    conda:
        "../envs/core.yaml"
    params:
        path=fetched,
    message:
        "{wildcards.id}: forget the source"
    script:
        "../scripts/forget.py"
