"""Plan a conversion: decide the fate of every leaf before a tensor is read."""

from typing import TYPE_CHECKING

from convkit.deferred import exported

if TYPE_CHECKING:
    from convkit.errors import PlanError
    from convkit.plan.document import Options, Plan
    from convkit.plan.make import make_plan
    from convkit.plan.source import Source, open_source

__all__ = ["Options", "Plan", "PlanError", "Source", "make_plan", "open_source"]
__getattr__ = exported(
    __name__,
    {
        "Options": "convkit.plan.document",
        "Plan": "convkit.plan.document",
        "PlanError": "convkit.errors",
        "Source": "convkit.plan.source",
        "make_plan": "convkit.plan.make",
        "open_source": "convkit.plan.source",
    },
)
