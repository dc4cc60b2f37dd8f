# A repair of an old Cerebras checkpoint replaces a conversion: it is planned, carried out, then judged by the
# round trip, which compares every tensor under its own name, so no model is run.
rule plan_repair:
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
        id=any_of(REPAIRS),
    group:
        together("prepare")
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=reading,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        command=repairing,
        runner=runner,
        again=again("plan"),
    message:
        "{wildcards.id}: plan"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --" " convkit cerebras {params.command:q} --dry-run --json"


rule repair:
    input:
        source=source_record,
        here=source_here,
        plan="<results>/{id}/plan.json",
    output:
        "<results>/{id}/convert.json",
    log:
        "<logs>/convert.log",
    benchmark:
        "<benchmarks>/convert.tsv"
    wildcard_constraints:
        id=any_of(REPAIRS),
    group:
        together("prove")
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=planned("peak_bytes", atleast=1000),
        disk_mb=planned("bytes_written", atleast=50),
        runtime=minutes,
    params:
        command=repairing,
        runner=runner,
        again=again("convert"),
    message:
        "{wildcards.id}: repair"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit cerebras {params.command:q} --overwrite --json"
