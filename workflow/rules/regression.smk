# Asked for by name, `snakemake regression`: carries out the table, then compares each row with its baseline. It has no
# output, so it compares each time; rows that are done aren't done again. A row that isn't proved doesn't end it: what
# its baseline says of that counts.
rule regression:
    input:
        documents(),
        baselines(),
        summary="<results>/summary.json",
    log:
        "<results>/logs/regression.log",
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        results=subpath(input.summary, parent=True),
        baselines=config["baselines"],
    message:
        "the regression"
    shell:
        "convkit baseline compare {params.results:q} --baselines {params.baselines:q} > {log:q} 2>&1 && cat {log:q}"
