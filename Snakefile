# A campaign: every row of the table is a claim about a checkpoint, and is carried out and judged.
#
#   fetch > inspect > plan > convert > roundtrip   > (sign) > report > verdict
#                   (or repair)      > equivalence            > sign the campaign > audit: with a key
#
# config/README.md is the manual.
from snakemake.utils import min_version

min_version("9.15")


configfile: "config/config.yaml"


# for snakemake --report
report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


pathvars:
    results=config["results"],
    logs="<results>/{id}/logs",
    benchmarks="<results>/{id}/benchmarks",


wildcard_constraints:
    column="|".join(map(re.escape, config.get("matrix", {}))) or "(?!)",
    id="|".join(map(re.escape, ROWS)),


localrules:
    all,
    report,
    verdict,
    reported,
    regression,


# Prints the table, also where the campaign was up to date. Its input are the documents too, so that one that was
# deleted is made again.
rule all:
    input:
        documents(),
        audited(),
        table="<results>/verdict.txt",
    log:
        "<results>/logs/table.log",
    conda:
        "environment.yml"
    message:
        "the table"
    shell:
        "tee {log:q} < {input.table:q}"


include: "workflow/rules/fetch.smk"
include: "workflow/rules/inspect.smk"
include: "workflow/rules/convert.smk"
include: "workflow/rules/repair.smk"
include: "workflow/rules/roundtrip.smk"
include: "workflow/rules/equivalence.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/regression.smk"


if "matrix" in config:

    include: "workflow/rules/matrix.smk"


if "signing_key" in config:

    include: "workflow/rules/audit.smk"


onstart:
    begin_run()


onsuccess:
    end_part()


# A row that could not be carried out to its verdicts is on the page too.
onerror:
    end_run()
    report_failure()
