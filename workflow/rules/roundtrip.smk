rule roundtrip:
    input:
        source_record,
        "<results>/{id}/convert.json",
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/roundtrip.json",
    log:
        "<logs>/roundtrip.log",
    benchmark:
        "<benchmarks>/roundtrip.tsv"
    wildcard_constraints:
        id=any_of(checked_by("roundtrip")),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=planned("peak_bytes", factor=2, atleast=500),
        runtime=minutes,
    params:
        source=source,
        target=target,
        opening=opening,
    message:
        "{wildcards.id}: round trip"
    shell:
        "convkit roundtrip {params.source:q} {params.target:q} {params.opening:q} --json --no-fail"
        " > {output:q} 2> {log:q}"
