include: "workflow/Snakefile"


# what is included doesn't say by itself what is made where nothing is asked for
workflow.default_target = "all"
