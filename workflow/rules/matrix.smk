# Asked for by name, `snakemake matrix`: the same table under other versions, each column in an environment of its own,
# then column by column against the campaign itself.
#
# An environment sees the packages of the one that runs this, and has those of its constraints before them: only what
# differs is installed, into the results, and nothing else is changed.
rule environment:
    input:
        lambda wildcards: local(config["matrix"][wildcards.column]),
    output:
        "<results>/matrix/{column}/versions.txt",
    log:
        "<results>/matrix/{column}/logs/environment.log",
    conda:
        "../envs/all.yaml"
    params:
        folder=subpath(output[0], parent=True),
        script=column_script,
    message:
        "{wildcards.column}: the environment"
    shell:
        "bash {params.script:q} make {params.folder:q}/env {input:q} {output:q} > {log:q} 2>&1"


# A Snakemake of the column's environment, whose jobs find that environment's command.
rule column:
    input:
        local(config["checkpoints"]),
        versions="<results>/matrix/{column}/versions.txt",
        summary="<results>/summary.json",
    output:
        "<results>/matrix/{column}/results/summary.json",
    log:
        "<results>/matrix/{column}/logs/column.log",
    conda:
        "../envs/all.yaml"
    threads: workflow.cores
    params:
        folder=subpath(input.versions, parent=True),
        settings=lambda wildcards: json.dumps(column_config(wildcards.column)),
        script=column_script,
        # this workflow's own, also within another one
        snakefile=workflow.current_basedir.join("../Snakefile").get_path_or_uri(secret_free=True),
    message:
        "{wildcards.column}: the table"
    shell:
        "printf '%s\\n' {params.settings:q} > {params.folder:q}/config.json &&"
        " bash {params.script:q} run {params.folder:q}/env {params.folder:q}/config.json {params.snakefile:q}"
        " {threads:q} > {log:q} 2>&1"


rule matrix:
    input:
        columns=expand("<results>/matrix/{column}/results/summary.json", column=config["matrix"]),
        summary="<results>/summary.json",
    log:
        "<results>/logs/matrix.log",
    conda:
        "../envs/all.yaml"
    params:
        results=subpath(input.summary, parent=True),
        columns=lambda wildcards: [f"{name}={RESULTS}/matrix/{name}/results" for name in config["matrix"]],
    message:
        "the matrix"
    shell:
        "convkit baseline matrix {params.results:q} {params.columns:q} > {log:q} 2>&1 && cat {log:q}"
