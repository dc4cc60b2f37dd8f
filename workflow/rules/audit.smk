# Signed evidence, where the config names a key: each row is signed once it was checked, then the campaign, whose
# evidence is checked at the end as a stranger would. A passphrase comes from the environment, CONVKIT_KEY_PASSPHRASE.
rule sign:
    input:
        proofs=proofs,
        key=local(config["signing_key"]),
    output:
        "<results>/{id}/signed.json",
    log:
        "<logs>/sign.log",
    benchmark:
        "<benchmarks>/sign.tsv"
    group:
        together("prove")
    conda:
        "../envs/core.yaml"
    resources:
        runtime=60,
    params:
        target=target,
        folder=subpath(output[0], parent=True),
        responsible=responsible,
        runner=alone,
        again=again("signed"),
    message:
        "{wildcards.id}: sign"
    shell:
        "bash {params.runner:q} {output:q} {log:q} {input.proofs:q} --"
        " convkit audit sign {params.target:q} --key {input.key:q} --documents {params.folder:q}"
        " {params.responsible:q} --overwrite --json"


rule sign_campaign:
    input:
        expand("<results>/{id}/signed.json", id=ROWS),
        claims="<results>/checkpoints.tsv",
        key=local(config["signing_key"]),
    output:
        config="<results>/config.json",
        statement="<results>/campaign.intoto.jsonl",
    log:
        "<results>/logs/sign.log",
    conda:
        "../envs/core.yaml"
    params:
        results=subpath(output.statement, parent=True),
        settings=json.dumps({name: config[name] for name in DEFAULTS}, indent=1),
        responsible=responsible,
    message:
        "sign the campaign"
    shell:
        "printf '%s\\n' {params.settings:q} > {output.config:q} &&"
        " convkit audit sign {params.results:q} --key {input.key:q} {params.responsible:q} --overwrite > {log:q} 2>&1"


# Reads every file again, and fails where the evidence doesn't hold by the policy.
rule audit:
    input:
        statement="<results>/campaign.intoto.jsonl",
        public=[local(key) for key in public_keys()],
        policy=local(config["policy"]) if "policy" in config else [],
    output:
        report(
            "<results>/audit.txt",
            caption="../report/audit.rst",
            category="Campaign",
            labels={"document": "audit of the signed evidence"},
        ),
    log:
        "<results>/logs/audit.log",
    conda:
        "../envs/core.yaml"
    params:
        results=subpath(input.statement, parent=True),
        public=[f"--public-key={key}" for key in public_keys()],
        policy=[f"--policy={config['policy']}"] if "policy" in config else [],
    message:
        "the audit"
    shell:
        "convkit audit verify {params.results:q} {params.public:q} {params.policy:q} > {log:q} 2>&1 &&"
        " cp -- {log:q} {output:q}"
