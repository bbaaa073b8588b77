"""The policies of a trial fleet's clients."""

from pathlib import Path
from typing import Any

from fededge import settings
from fededge.signing import public_file
from pipelines.trial.chargers import FILE
from pipelines.trial.clients import ClientPlan

POLL_SECONDS = 2.0
"""After which an agent asks for a newer release again."""


def policy(plan: ClientPlan, task: str, datasets: Path) -> dict[str, Any]:
    """What a client allows: this task's orders, signed by this machine's release key, on the client's own folder.

    Args:
        plan: what the client is.
        task: its name, which is that of the examples, too.
        datasets: the folder with the client's train/ and test/.
    """
    key = str(public_file(settings.signing_key_file()).resolve())
    charger = {"file": FILE} if plan.program == "agent" else {}
    always = {"region": plan.region} | ({} if charger else {"charging": True})
    allowed: dict[str, Any] = {
        "datasets": {task: str(datasets)},
        "conditions": {**charger, "always": always},
        "rules": [
            {
                "name": "trial",
                "tasks": [task],
                "signers": [key],
                "datasets": [task],
                "kinds": ["train", "evaluate", "ranges"],
                "min_clients": 1,
                "min_examples": 1,
            }
        ],
    }
    if plan.device_class:
        release = {"task": task, "class": plan.device_class, "trusted_key": key}
        allowed |= {"releases": [release], "poll_seconds": POLL_SECONDS}
    return allowed
