"""What suits the demo's story, beside what suits any installation."""

from __future__ import annotations

from pathlib import Path

from ordermill.simulator.faults import DEMO


def demo_settings(folder: Path, speed: float) -> dict[str, str]:
    """Waits that make sense on a clock that runs fast: never shorter than what takes real time anyway."""
    from services.routing.policy import default_policy_text

    policy = default_policy_text()
    retry_s = max(10, round(speed * 1.0))
    lines = [f"retry_after_s = {retry_s}" if line.startswith("retry_after_s") else line for line in policy.splitlines()]
    path = folder / "demo-routing-policy.toml"
    path.write_text("\n".join(lines) + "\n")
    return {
        "OMS_ROUTING_POLICY_FILE": str(path),
        "OMS_TRACKING_LOST_AFTER": "P6D",
        "OMS_CHECKPOINT_EVERY_S": "10",
        "OMS_SIMULATOR_BEHAVIOR": DEMO.model_dump_json(),
        "OMS_OUTBOUND_READ_S": "1",
        "OMS_OUTBOUND_TOTAL_S": "2",
        "OMS_CAPTURE_TRUSTED_CHANNELS": '["store", "wholesale", "pos", "marketplace"]',
    }
