"""Selection policies on a skewed, simulated fleet, each against uniform selection.

    .venvs/worker/bin/python -m benchmarks.selection [--clients 300] [--rounds 200] [--seeds 3]

Sizes and speeds of clients differ by orders of magnitude, four regions have very different numbers of clients, and the
labels of a region are its own: what few clients of a small region hold is rare elsewhere. A round takes as long as the
slowest of those it waits for. The model is softmax regression on scikit-learn's digits, averaged by examples (FedAvg).
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.datasets import load_digits

from fededge.fleet.allocation import ROOM, shares
from fededge.fleet.selection import policy_of
from fededge.fleet.selection.policy import Candidate

COHORT = 15
REGIONS = {"north": 0.6, "east": 0.25, "south": 0.1, "west": 0.05}
TARGET = 0.8
BATCH, RATE = 16, 0.1
OVER = 1.4
Weights = tuple[np.ndarray, np.ndarray]


@dataclass
class Fleet:
    """Clients with their own examples, and what is held out."""

    clients: list[Candidate]
    data: dict[str, tuple[np.ndarray, np.ndarray]]
    test: tuple[np.ndarray, np.ndarray]


@dataclass
class Outcome:
    """What one policy came to: `at` is the round and the simulated second at which the target was reached."""

    asked: Counter[str] = field(default_factory=Counter)
    heard: int = 0
    longest_wait: int = 0
    seconds: float = 0.0
    at: tuple[int, float] | None = None
    accuracy: float = 0.0


def make_fleet(count: int, seed: int) -> Fleet:
    """Clients of skewed sizes, speeds, regions and labels."""
    chance = np.random.default_rng(seed)
    x, y = load_digits(return_X_y=True)
    order = chance.permutation(len(x))
    x, y = x[order] / 16.0, y[order]
    test, train = (x[:400], y[:400]), (x[400:], y[400:])
    labels = {region: chance.dirichlet(np.full(10, 0.3)) + 0.005 for region in REGIONS}
    clients, data = [], {}
    for number in range(count):
        region = str(chance.choice(list(REGIONS), p=list(REGIONS.values())))
        size = int(np.clip(chance.lognormal(4.0, 0.8), 10, 500))
        odds = labels[region][train[1]]
        mine = chance.choice(len(train[1]), size, p=odds / odds.sum())
        name = f"client-{number:03d}"
        data[name] = (train[0][mine], train[1][mine])
        clients.append(Candidate(name, size, region=region, speed=float(chance.lognormal(2.5, 1.0))))
    return Fleet(clients, data, test)


def learned(weights: Weights, x: np.ndarray, y: np.ndarray) -> tuple[Weights, float]:
    """The weights after one pass over a client's examples, and the mean loss on the way."""
    kernel, bias = weights[0].copy(), weights[1].copy()
    losses = []
    for start in range(0, len(y), BATCH):
        rows, wanted = x[start : start + BATCH], y[start : start + BATCH]
        odds = np.exp(rows @ kernel + bias)
        shares_ = odds / odds.sum(axis=1, keepdims=True)
        losses += (-np.log(shares_[np.arange(len(wanted)), wanted] + 1e-9)).tolist()
        slope = (shares_ - np.eye(10)[wanted]) / len(wanted)
        kernel -= RATE * rows.T @ slope
        bias -= RATE * slope.sum(axis=0)
    return (kernel, bias), float(np.mean(losses))


def run(
    fleet: Fleet,
    choose: Callable[[Sequence[Candidate], int, int], list[str]],
    rounds: int,
    seed: int,
    asked: int = COHORT,
    deadline: float | None = None,
    allocate: bool = False,
) -> Outcome:
    """Federated averaging, in which `choose(pool, size, round)` selects each cohort."""
    weights: Weights = (np.zeros((64, 10)), np.zeros(10))
    outcome, last = Outcome(), dict.fromkeys(fleet.data, 0)
    losses: dict[str, float] = {}
    measured: set[str] = set()
    by_id = {client.id: client for client in fleet.clients}
    chance = np.random.default_rng([seed, 9])
    for number in range(1, rounds + 1):
        pool = [
            replace(
                client,
                waited=number - last[client.id],
                loss=losses.get(client.id),
                speed=client.speed if client.id in measured else None,
            )
            for client in fleet.clients
        ]
        cohort = choose(pool, asked, number)
        for name in cohort:
            outcome.longest_wait = max(outcome.longest_wait, number - last[name])
            last[name] = number
        outcome.asked.update(cohort)
        known = {client.id: client for client in pool}
        part = shares((known[name] for name in cohort), deadline) if allocate and deadline else {}
        took = {
            name: part.get(name, 1.0) * by_id[name].train / float(by_id[name].speed or 1) for name in cohort
        }
        heard = sorted(cohort, key=lambda name: took[name])
        if asked > COHORT:
            heard = heard[:COHORT]
        if deadline is not None:
            heard = [name for name in heard if took[name] <= deadline]
        outcome.seconds += max((took[name] for name in heard), default=0.0)
        if deadline is not None and len(heard) < min(COHORT, len(cohort)):
            outcome.seconds += deadline - max((took[name] for name in heard), default=0.0)
        outcome.heard += len(heard)
        updates = []
        for name in sorted(heard):
            x, y = fleet.data[name]
            rows = chance.permutation(len(y))[: max(1, round(part.get(name, 1.0) * len(y)))]
            update, losses[name] = learned(weights, x[rows], y[rows])
            updates.append((len(rows), update))
            measured.add(name)
        if updates:
            whole = sum(count for count, _ in updates)
            parts = [[count / whole * w[i] for count, w in updates] for i in range(2)]
            weights = (np.sum(parts[0], axis=0), np.sum(parts[1], axis=0))
        found = (fleet.test[0] @ weights[0] + weights[1]).argmax(axis=1)
        outcome.accuracy = float((found == fleet.test[1]).mean())
        if outcome.at is None and outcome.accuracy >= TARGET:
            outcome.at = (number, outcome.seconds)
    outcome.longest_wait = max(outcome.longest_wait, *(rounds - when for when in last.values()))
    return outcome


def balance(fleet: Fleet, outcome: Outcome) -> float:
    """Seats of the region that has fewest, as a share of an equal part: 1 is perfectly balanced."""
    seats: Counter[str] = Counter()
    for client in fleet.clients:
        seats[client.region or ""] += outcome.asked[client.id]
    return min(seats[region] for region in REGIONS) / (sum(seats.values()) / len(REGIONS))


def named(name: str, seed: int) -> Callable[[Sequence[Candidate], int, int], list[str]]:
    """The choice of a policy; `weighted` shares the seats between oort, geo and fair."""
    policy = policy_of(name, {"oort": 2.0, "geo": 1.0, "fair": 1.0} if name == "weighted" else {})
    return lambda pool, size, number: policy.choose(pool, size, seed, number)


def main() -> None:
    """Print a row for each policy, and for over-selection and allocation."""
    parser = argparse.ArgumentParser(prog="benchmarks.selection", description=__doc__)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    fleets = [make_fleet(options.clients, seed) for seed in range(options.seeds)]
    times = [client.train / float(client.speed or 1) for fleet in fleets for client in fleet.clients]
    deadline = float(np.quantile(times, 0.7)) / ROOM
    rows: list[tuple[str, str, dict[str, object]]] = [
        (name, name, {}) for name in ("uniform", "poisson", "fair", "geo", "data_size", "oort", "weighted")
    ]
    rows += [
        (f"uniform, over-selection {OVER}", "uniform", {"asked": round(COHORT * OVER)}),
        (f"uniform, deadline {deadline:.0f} s", "uniform", {"deadline": deadline}),
        ("  and allocation", "uniform", {"deadline": deadline, "allocate": True}),
    ]
    print(
        f"{options.clients} clients, cohorts of {COHORT}, {options.rounds} rounds, mean of {options.seeds} seeds; "
        f"target accuracy {TARGET:.0%}\n"
    )
    head = ("coverage", "balance", "longest wait", "in time", "rounds", "seconds", "x uniform", "accuracy")
    print(f"{'':32}" + "".join(f"{title:>13}" for title in head))
    base: float | None = None
    for title, name, given in rows:
        outcomes = [
            run(fleet, named(name, seed), options.rounds, seed, **given)  # type: ignore[arg-type]
            for seed, fleet in enumerate(fleets)
        ]
        reached = [outcome.at for outcome in outcomes if outcome.at]
        whole = len(reached) == len(outcomes)
        seconds = float(np.mean([at[1] for at in reached])) if whole else float("nan")
        base = seconds if base is None else base
        figures = (
            f"{np.mean([len(o.asked) / options.clients for o in outcomes]):.0%}",
            f"{np.mean([balance(f, o) for f, o in zip(fleets, outcomes, strict=True)]):.2f}",
            f"{np.mean([o.longest_wait for o in outcomes]):.0f}",
            f"{np.mean([o.heard / sum(o.asked.values()) for o in outcomes]):.0%}",
            f"{np.mean([at[0] for at in reached]):.0f}" if whole else "not all",
            f"{seconds:.0f}" if whole else "not all",
            f"{seconds / base:.2f}" if whole else "-",
            f"{np.mean([o.accuracy for o in outcomes]):.3f}",
        )
        print(f"{title:32}" + "".join(f"{figure:>13}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
