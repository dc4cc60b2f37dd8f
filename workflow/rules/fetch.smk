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
        uri=lambda wildcards: ROWS[wildcards.id]["source"],
        digest=expected_digest,
        path=source,
    message:
        "{wildcards.id}: fetch"
    shell:
        "convkit fetch {params.uri:q} {params.path} {params.digest} --overwrite --json > {output} 2> {log}"
