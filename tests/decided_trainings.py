"""Plans for a DiffusionTraining from a few words, and how a user and kstatus read them."""

from typing import Any

from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from world_builders import NOW, TWO_POOLS, job, pod, record, world

DIGEST = "sha256:" + "c" * 64
COMMITTED = {"step": 20, "digest": DIGEST, "time": "2026-01-01T11:00:00Z"}
PUBLISHED = {"reference": f"pvc://digits-models/digits@{DIGEST}", "digest": DIGEST, "step": 20}
JOBS = (job("base", active=1), job("spot", active=1))
PAIR = (*JOBS, pod("a"), pod("b", pool="spot", node="n2"))
"""Two Jobs with a running pod each; `b` is on the spot node `n2`."""
BOTH = (record("a", generation=1, step=7), record("b", generation=1, step=7))
IMAGE = {"reason": "ErrImagePull", "message": "nothing is known about nowhere:1"}


def decided(*children: Any, **facts: Any) -> Plan:
    """The plan for a run on two pools, at NOW."""
    return decide_training(world(*children, **({"spec": TWO_POOLS} | facts)), NOW)


def status_of(plan: Plan) -> Any:
    """The status that the plan stores."""
    assert plan.status is not None
    return plan.status


def conditions(plan: Plan) -> dict[str, dict[str, Any]]:
    """The conditions of the plan's status, by type."""
    assert plan.status is not None
    return {one["type"]: one for one in plan.status["conditions"]}


def said(plan: Plan) -> tuple[str, str, str]:
    """Phase, reason and message."""
    assert plan.status is not None
    return plan.status["phase"], conditions(plan)["Ready"]["reason"], plan.status["message"]


def kstatus(plan: Plan) -> str:
    """As kstatus computes it: Current, InProgress or Failed."""
    found = {kind: one["status"] for kind, one in conditions(plan).items()}
    if found["Stalled"] == "True":
        return "Failed"
    return "InProgress" if found["Reconciling"] == "True" or found["Ready"] != "True" else "Current"
