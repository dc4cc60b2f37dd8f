rule roundtrip:
    input:
        source=source_record,
        here=source_here,
        converted="<results>/{id}/convert.json",
        plan="<results>/{id}/plan.json",
    output:
        report(
            "<results>/{id}/roundtrip.json",
            caption="../report/roundtrip.rst",
            category="Checks",
            subcategory="{id}",
            labels={"row": "{id}", "check": "round trip"},
        ),
    log:
        "<logs>/roundtrip.log",
    benchmark:
        "<benchmarks>/roundtrip.tsv"
    wildcard_constraints:
        id=any_of(id for id in checked_by("roundtrip") if id not in PARTED),
    group:
        together("prove")
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=planned("peak_bytes", factor=2, atleast=1000),
        runtime=minutes,
    params:
        source=source,
        target=target,
        opening=opening,
        runner=runner,
        again=again("roundtrip"),
    message:
        "{wildcards.id}: round trip"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit roundtrip {params.source:q} {params.target:q} {params.opening:q} --json --no-fail"
