# Both models are walked a stage at a time: memory follows the largest stage, in float32.
rule equivalence:
    input:
        source=source_record,
        here=source_here,
        converted="<results>/{id}/convert.json",
        plan="<results>/{id}/plan.json",
    output:
        report(
            "<results>/{id}/equivalence.json",
            caption="../report/equivalence.rst",
            category="Checks",
            subcategory="{id}",
            labels={"row": "{id}", "check": "equivalence"},
        ),
    log:
        "<logs>/equivalence.log",
    benchmark:
        "<benchmarks>/equivalence.tsv"
    wildcard_constraints:
        id=any_of(id for id in checked_by("equivalence") if id not in PARTED),
    group:
        together("prove")
    conda:
        environment("equivalence")
    threads: cores(equivalence_threads)
    resources:
        mem_mb=equivalence_memory,
        runtime=equivalence_minutes,
    params:
        source=source,
        target=target,
        opening=opening,
        options=equivalence_options,
        threads=equivalence_threads,
        runner=runner,
        again=again("equivalence"),
    message:
        "{wildcards.id}: equivalence"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit equivalence {params.source:q} {params.target:q} {params.opening:q} {params.options:q}"
        " --threads {params.threads:q} --json --no-fail"
