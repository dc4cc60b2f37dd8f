# Both models are in memory in float32, in the worst case twice as large as their files.
rule equivalence:
    input:
        source_record,
        "<results>/{id}/convert.json",
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/equivalence.json",
    log:
        "<logs>/equivalence.log",
    benchmark:
        "<benchmarks>/equivalence.tsv"
    wildcard_constraints:
        id=any_of(checked_by("equivalence")),
    conda:
        "../../environment.yml"
    threads: config["threads"]
    resources:
        mem_mb=planned("bytes_read", factor=4, atleast=2000),
        runtime=minutes,
    params:
        source=source,
        target=target,
        opening=opening,
        probe_length=config["probe_length"],
        options=check_options("equivalence"),
    message:
        "{wildcards.id}: equivalence"
    shell:
        "convkit equivalence {params.source} {params.target} {params.opening:q} --probe-length {params.probe_length}"
        " {params.options:q} --json --no-fail > {output} 2> {log}"
