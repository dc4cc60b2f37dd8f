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
    id="|".join(map(re.escape, ROWS)),


localrules:
    all,
    report,
    verdict,
    regression,


# Prints the table, also where the campaign was up to date. Its input are the documents too, so that one that was
# deleted is made again.
rule all:
    input:
        expand(
            "<results>/{id}/{stage}.json",
            id=ROWS,
            stage=["inspect", "plan", "convert"],
        ),
        expand("<results>/{id}/roundtrip.json", id=checked_by("roundtrip")),
        expand("<results>/{id}/equivalence.json", id=checked_by("equivalence")),
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
