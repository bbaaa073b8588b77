"""The report's charts of learning and of variants."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from fededge.documents import Evaluation, Measurement, RoundRecord
from fededge.report.drawing import COLORS, label, legend, styled, svg
from fededge.report.formatting import PERCENTAGES, score, titled

MAX_MARKERS = 60
"""Points up to which each has a marker."""


def rounds_chart(
    metric: str,
    rounds: Sequence[RoundRecord],
    evaluations: Sequence[Evaluation],
    centralized: Evaluation | None,
) -> str:
    """The score or the loss by round, training and held-out, with centralized training as a level.

    Args:
        metric: of the scores that are drawn, or "loss".
        rounds: with their training metrics and, where it was measured, the score on held-out data.
        evaluations: the global model on held-out data after some rounds.
        centralized: the comparison, if it was trained: a line where each pass was scored, else a level.

    Returns:
        An SVG element; "" where there is nothing to draw.
    """
    field = "loss" if metric == "loss" else "score"
    training = [(record.round, getattr(record, field)) for record in rounds]
    tested = _held_out(field, rounds, evaluations)
    level = getattr(centralized, field) if centralized else None
    passes = [(found.round, getattr(found, field)) for found in centralized.passes] if centralized else []
    if not training and not tested:
        return ""
    with styled(5.2, 3.0) as (figure, axes):
        dashed: dict[str, Any] = {
            "color": COLORS["centralized"],
            "dashes": (4, 3),
            "label": "centralized, held out",
        }
        if passes:
            axes.plot(*zip(*passes, strict=True), **dashed)
        elif level is not None:
            axes.axhline(level, **dashed)
        if training:
            dots = (0, (1.2, 1.4))
            color = COLORS["training"]
            axes.plot(*zip(*training, strict=True), ls=dots, color=color, label="clients, training")
        if tested:
            style = "o-" if len(tested) <= MAX_MARKERS else "-"
            color = COLORS["federated"]
            axes.plot(*zip(*tested, strict=True), style, color=color, label="federated, held out")
            axes.annotate(
                score(tested[-1][1], metric),
                tested[-1],
                xytext=(4, -11) if field == "score" else (4, 9),
                textcoords="offset points",
                ha="right",
                va="center",
                color=color,
            )
        axes.margins(y=0.15)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
        if metric in PERCENTAGES:
            _percent_axis(axes)
        elif metric == "loss":
            axes.set_ylim(bottom=0)
        legend(figure)
        name = label(titled(metric))
        described = [f"{name} by round."]
        if training:
            described.append(f"Clients in training, round {training[-1][0]}: {training[-1][1]:.4f}.")
        if tested:
            start, end = tested[0], tested[-1]
            described.append(
                f"Federated on held-out data: {start[1]:.4f} after round {start[0]}, {end[1]:.4f} after round "
                f"{end[0]}."
            )
        if level is not None:
            described.append(f"Centralized: {level:.4f}.")
        return svg(figure, f"{field}-by-round", f"{name} by round", " ".join(described))


def runs_chart(metric: str, scores: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Scores in `metric` on held-out data by round of several runs: one line each, named after its run.

    Returns:
        An SVG element; "" where there is nothing to draw.
    """
    drawn = {run: points for run, points in scores.items() if points}
    if not drawn:
        return ""
    with styled(8.0, 4.0) as (figure, axes):
        for index, (run, points) in enumerate(drawn.items()):
            style = "o-" if len(points) <= MAX_MARKERS else "-"
            axes.plot(*zip(*points, strict=True), style, color=COLORS[f"label-{index % 10}"], label=run)
        axes.margins(y=0.15)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
        if metric in PERCENTAGES:
            _percent_axis(axes)
        legend(figure)
        ends = [f"{run}: {points[-1][1]:.4f} after round {points[-1][0]}" for run, points in drawn.items()]
        return svg(
            figure, "runs", f"{label(titled(metric))} on held-out data by round", "; ".join(ends) + "."
        )


def size_chart(variants: Sequence[Measurement]) -> str:
    """Score of each variant over its size in bytes; "" where none was measured."""
    if not variants:
        return ""
    with styled(5.2, 3.0) as (figure, axes):
        heights = [found.score for found in variants]
        room = max(max(heights) - min(heights), 0.002)
        axes.set_xlim(0, max(found.bytes for found in variants) * 1.15)
        axes.set_ylim(min(heights) - room * 0.4, max(heights) + room * 0.8)
        taken: list[tuple[float, float]] = []
        for found in sorted(variants, key=lambda found: (found.bytes, found.kind)):
            place = (found.bytes, found.score)
            axes.plot(
                *place,
                "o" if found.passed else "X",
                markersize=8,
                color=COLORS["good" if found.passed else "bad"],
                markeredgecolor=COLORS["card"],
            )
            x, y = axes.transAxes.inverted().transform(axes.transData.transform(place))
            while any(abs(x - left) < 0.17 and abs(y - height) < 0.085 for left, height in taken):
                y += 0.085  # labels of variants of one size and score stand above each other
            taken.append((x, y))
            axes.annotate(
                label(found.kind),
                (x, y),
                xycoords="axes fraction",
                xytext=(0, 11),
                textcoords="offset points",
                ha="center",
                va="center",
            )
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if variants[0].metric in PERCENTAGES:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=2, symbol=" %"))
        axes.set_xlabel("size in kB")
        axes.grid()
        described = "; ".join(
            f"{label(found.kind)} {found.bytes:,} bytes, {found.score:.4f}"
            f"{'' if found.passed else ', gate not passed'}"
            for found in variants
        )
        return svg(
            figure, "size-score", f"Size and {label(variants[0].metric)} of the variants", described + "."
        )


def _percent_axis(axes: Axes) -> None:
    lowest = axes.get_ylim()[0]
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if lowest < 0.9 else 1, symbol=" %"))
    axes.set_ylim(top=1.0 + (1.0 - lowest) * 0.03)


def _held_out(
    field: str, rounds: Sequence[RoundRecord], evaluations: Sequence[Evaluation]
) -> list[tuple[int, float]]:
    """Scores of the global model on held-out data by round: of each round that has one, else of evaluations."""
    points = {found.round: getattr(found, field) for found in evaluations}
    points |= {record.round: getattr(record.held_out, field) for record in rounds if record.held_out}
    trained = {number: value for number, value in points.items() if number > 0}
    return sorted((trained or points).items())  # the untrained model would set the scale
