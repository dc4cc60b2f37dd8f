# A large checkpoint on this machine is read where it lies: its record says where, and shows whether it was changed.
# The command looks up the source in the table: words of a rule are printed and recorded.
rule fetch:
    output:
        "<results>/{id}/fetch.json",
    log:
        "<logs>/fetch.log",
    benchmark:
        "<benchmarks>/fetch.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        table=lambda wildcards: config["checkpoints"],
        path=fetched,
        runner=runner,
        again=again("fetch"),
        claimed=claimed_source,
        seen=seen_source,
    message:
        "{wildcards.id}: fetch"
    shell:
        "bash {params.runner:q} {output:q} {log:q} --"
        " convkit fetch {params.table:q} {params.path:q} --row {wildcards.id:q} --in-place --overwrite --json"
