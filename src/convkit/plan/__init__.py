"""What will be done, decided before a tensor is read: the fate of every leaf."""

from convkit.errors import PlanError
from convkit.plan.document import Options, Plan
from convkit.plan.make import make_plan
from convkit.plan.source import Source, open_source

__all__ = ["Options", "Plan", "PlanError", "Source", "make_plan", "open_source"]
