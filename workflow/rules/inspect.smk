rule inspect:
    input:
        source_record,
    output:
        "<results>/{id}/inspect.json",
    log:
        "<logs>/inspect.log",
    benchmark:
        "<benchmarks>/inspect.tsv"
    conda:
        "../../environment.yml"
    params:
        path=source,
        opening=opening,
    message:
        "{wildcards.id}: inspect"
    shell:
        "convkit inspect {params.path:q} {params.opening:q} --json > {output:q} 2> {log:q}"


rule plan:
    input:
        source_record,
    output:
        "<results>/{id}/plan.json",
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.tsv"
    wildcard_constraints:
        id=any_of(CONVERSIONS),
    conda:
        "../../environment.yml"
    params:
        path=source,
        request=request,
    message:
        "{wildcards.id}: plan"
    shell:
        "convkit plan {params.path:q} {params.request:q} --json > {output:q} 2> {log:q}"
