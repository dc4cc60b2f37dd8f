# The command looks up the source in the table: words of a rule are printed and recorded.
rule fetch:
    output:
        "<results>/{id}/fetch.json",
    log:
        "<logs>/fetch.log",
    benchmark:
        "<benchmarks>/fetch.tsv"
    retries: 2
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        table=lambda wildcards: config["checkpoints"],
        path=source,
        claimed=claimed_source,
    message:
        "{wildcards.id}: fetch"
    shell:
        "convkit fetch {params.table:q} {params.path:q} --row {wildcards.id:q} --overwrite --json"
        " > {output:q} 2> {log:q}"
