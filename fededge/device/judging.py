"""Whether a client does what it is sent: by who signed it, what the site's policy says, and what was done before."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fededge.device import facts
from fededge.device.clock import Clock
from fededge.device.policy import Loaded
from fededge.device.policy_keys import Rule
from fededge.device.store import Store
from fededge.errors import IntegrityError, SiteError, shown
from fededge.protocol import Assignment, Order
from fededge.signing import LIMIT, Envelope, TrustedKey

DAY = 86_400
MISHAPS = 3
"""Times that the runner of a plan may hang, crash or take too much before the plan is refused."""


@dataclass(frozen=True)
class Verdict:
    """Work that the policy allows.

    Attributes:
        order: as it was signed.
        signer: who signed it.
        rule: that allows it.
        data: the client folder that it is about.
        share: of the training examples to learn from.
        examples: for training that are here.
    """

    order: Order
    signer: TrustedKey
    rule: Rule
    data: Path
    share: float
    examples: int


def judged(
    assignment: Assignment, policy: Loaded, tenant: str, frameworks: Collection[str], isolated: bool
) -> Verdict:
    """What is asked for, if the policy allows it.

    Args:
        assignment: as the gateway sent it.
        policy: as it is now.
        tenant: whose client this is.
        frameworks: whose plans can be executed here.
        isolated: whether work runs in isolation here.

    Raises:
        SiteError: why not.
    """
    signer = _signer(assignment.order, policy)
    try:
        order = Order.opened(assignment.order, signer)
    except IntegrityError as error:
        raise SiteError(f"the order is refused: {error}") from error
    if order.tenant != tenant:
        raise SiteError(f"the order is for the tenant {order.tenant}, and this client is of {tenant}")
    if (assignment.plan.digest, assignment.weights.digest) != (order.plan, order.weights):
        raise SiteError("plan or weights are others than were signed")
    rule = policy.rule_for(order.task, order.owner, signer.id, order.dataset)
    if rule is None:
        raise SiteError(
            f"no rule of this site's policy is for the task {order.task} of {shown(order.owner)} on the dataset "
            f"{order.dataset}, signed by {signer.id}"
        )
    if mistake := _against(rule, order, assignment, frameworks, isolated):
        raise SiteError(f"rule {rule.name} of this site's policy: {mistake}")
    data = policy.folders[order.dataset]
    held = facts.dataset(order.dataset, data)
    examples = held.test if order.kind == "evaluate" else held.train
    if examples < rule.min_examples:
        raise SiteError(
            f"there are {examples} examples here, fewer than rule {rule.name} asks for (min_examples)"
        )
    share = max(assignment.share, rule.min_examples / examples) if order.kind == "train" else 1.0
    return Verdict(order, signer, rule, data, min(share, 1.0), held.train)


def unseen(verdict: Verdict, store: Store, clock: Clock) -> None:
    """Refuse work that was done before, or that comes too often.

    Raises:
        SiteError: why not.
    """
    order, rule = verdict.order, verdict.rule
    if store.knows(order.round_id, verdict.signer.id, order.issued):
        raise SiteError(f"the work of round {order.round_id} was done here before")
    if any(held.round == order.round_id for held in store.held()):
        raise SiteError(f"round {order.round_id} is worked on already")
    ages = [clock.about(moment) for moment in store.accepted_by(rule.name, rule.rounds_per_day or 1)]
    if ages and ages[0] < rule.seconds_between:
        raise SiteError(
            f"rule {rule.name} of this site's policy: not so soon after the last one (seconds_between)"
        )
    if rule.rounds_per_day is not None and sum(age < DAY for age in ages) >= rule.rounds_per_day:
        raise SiteError(f"rule {rule.name} of this site's policy: no more today (rounds_per_day)")


def harmless(order: Order, store: Store) -> None:
    """Refuse a plan whose runner failed here again and again.

    Raises:
        SiteError: why not.
    """
    times, reason = store.mishaps(order.plan)
    if times >= MISHAPS:
        raise SiteError(f"this plan was tried {times} times here, and is not run again: {reason}")


def _signer(envelope: str, policy: Loaded) -> TrustedKey:
    """The key that an order says it is signed by, if the policy trusts it."""
    try:
        named = Envelope.model_validate_json(envelope if len(envelope) <= LIMIT else "").key
    except ValidationError as error:
        raise SiteError("the order is no signed document") from error
    signer = policy.key(named)
    if signer is None:
        raise SiteError(f"the order is signed by {shown(named)}, which no rule of this site's policy trusts")
    return signer


def _against(
    rule: Rule, order: Order, assignment: Assignment, frameworks: Collection[str], isolated: bool
) -> str | None:
    """What in an order `rule` does not allow, or this machine cannot do."""
    clients = min(order.cohort, order.min_clients)
    largest = max(assignment.plan.bytes, assignment.weights.bytes)
    if order.kind not in rule.kinds:
        return f"it does not allow {order.kind} (kinds)"
    if clients < rule.min_clients:
        return f"{clients} clients are fewer than the {rule.min_clients} that it asks for (min_clients)"
    if order.code and not rule.code:
        return "it does not allow plans with code of the user's own (code)"
    if (order.code or rule.isolation) and not isolated:
        return "it asks for isolation, which this machine does not allow"
    if order.framework not in frameworks:
        return f"the framework {order.framework} is not installed here"
    if largest > rule.limits.download_bytes:
        return f"{largest:,} bytes are more than the {rule.limits.download_bytes:,} that it lets in (download_bytes)"
    return None
