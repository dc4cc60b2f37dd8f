# convkit itself publishes the output atomically and resumes after a kill, so the workflow only tracks the receipt.
# An output that is gone, or was changed since, is a reason to convert again.
rule convert:
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
        id=any_of(id for id in CONVERSIONS if id not in PARTED),
    group:
        together("prove")
    conda:
        environment("convert")
    threads: cores(conversion_threads)
    resources:
        # the plan says what two threads need
        mem_mb=planned("peak_bytes", factor=max(1, config["threads"] / 2), atleast=1000),
        disk_mb=planned("bytes_written", atleast=50),
        runtime=minutes,
    params:
        source=source,
        target=target,
        request=request,
        digest=config["digest"],
        threads=conversion_threads,
        runner=runner,
        again=again("convert"),
    message:
        "{wildcards.id}: convert"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input:q} --"
        " convkit convert {params.source:q} {params.target:q} {params.request:q} --digest {params.digest:q}"
        " --threads {params.threads:q} --overwrite --json"
