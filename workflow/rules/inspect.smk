rule inspect:
    input:
        source=source_record,
        here=source_here,
    output:
        "<results>/{id}/inspect.json",
    log:
        "<logs>/inspect.log",
    benchmark:
        "<benchmarks>/inspect.tsv"
    group:
        together("prepare")
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=reading,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        path=source,
        opening=opening,
        runner=runner,
        again=again("inspect"),
    message:
        "{wildcards.id}: inspect"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit inspect {params.path:q} {params.opening:q} --json"


rule plan:
    input:
        source=source_record,
        here=source_here,
    output:
        "<results>/{id}/plan.json",
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.tsv"
    wildcard_constraints:
        id=any_of(CONVERSIONS),
    group:
        together("prepare")
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=reading,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        path=source,
        request=plan_request,
        runner=runner,
        again=again("plan"),
    message:
        "{wildcards.id}: plan"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit plan {params.path:q} {params.request:q} --json"
