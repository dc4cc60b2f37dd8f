"""Plan a conversion: decide the fate of every leaf before a tensor is read."""

from convkit.errors import PlanError
from convkit.plan.document import Options, Plan
from convkit.plan.make import make_plan
from convkit.plan.source import Source, open_source

__all__ = ["Options", "Plan", "PlanError", "Source", "make_plan", "open_source"]
