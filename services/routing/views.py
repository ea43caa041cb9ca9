"""What routing shows: each order's plan and promise, and the policy in force."""

from __future__ import annotations

from ordermill.eventlog.views import View

from .domain import PLANS, POLICIES, PolicyInForce, plan_summary


def policy_summary(policy: PolicyInForce) -> dict[str, str]:
    return {"policy_hash": policy.policy_hash, "content": policy.content, "network": policy.network}


PLAN_VIEW = View("plans", PLANS.category, plan_summary, indexed=("status",))
POLICY_VIEW = View("policies", POLICIES.category, policy_summary)
