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
    threads: lambda wildcards: int(equivalence_settings(wildcards)["threads"])
    resources:
        mem_mb=planned("bytes_read", factor=4, atleast=2000),
        runtime=minutes,
    params:
        source=source,
        target=target,
        opening=opening,
        options=equivalence_options,
    message:
        "{wildcards.id}: equivalence"
    shell:
        "convkit equivalence {params.source} {params.target} {params.opening:q} {params.options:q}"
        " --threads {threads} --json --no-fail > {output} 2> {log}"
