rule report:
    input:
        local(config["checkpoints"]),
        expand("<results>/{id}/{stage}.json", id=ROWS, stage=["inspect", "convert"]),
        expand("<results>/{id}/forgotten.txt", id=PASSING),
        expand("<results>/{id}/roundtrip.json", id=checked_by("roundtrip")),
        expand("<results>/{id}/equivalence.json", id=checked_by("equivalence")),
        signed_rows(),
        baselines(),
    output:
        page=report(
            "<results>/report.html",
            caption="../report/page.rst",
            category="Campaign",
            labels={"document": "page of verdicts"},
        ),
        summary=report(
            "<results>/summary.json",
            caption="../report/summary.rst",
            category="Campaign",
            labels={"document": "figures"},
        ),
        claims="<results>/checkpoints.tsv",
    log:
        "<results>/logs/report.log",
    benchmark:
        "<results>/benchmarks/report.tsv"
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        results=subpath(output.page, parent=True),
        table=lambda wildcards: config["checkpoints"],
        baselines=history(),
    message:
        "the report"
    shell:
        "convkit report {params.results:q} --table {params.table:q} {params.baselines:q} --no-fail > {log:q} 2>&1"


# Ends the campaign: with the table if every row is proved, with an error if one isn't. Outputs are looked at again: one
# may have changed since the page was made.
rule verdict:
    input:
        page="<results>/report.html",
        summary="<results>/summary.json",
    output:
        "<results>/verdict.txt",
    log:
        "<results>/logs/verdict.log",
    benchmark:
        "<results>/benchmarks/verdict.tsv"
    # it may fail, which would keep the jobs of a workflow around this one from being begun
    priority: -1
    retries: 0
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        results=subpath(input.page, parent=True),
        baselines=history(),
    message:
        "the verdict"
    shell:
        "convkit report {params.results:q} {params.baselines:q} --no-page > {output:q} 2> {log:q} ||"
        " {{ cat {output:q} >&2; exit 1; }}"


# The page, whatever the verdicts say.
rule reported:
    input:
        documents(),
        "<results>/report.html",
    localrule: True
