"""The report's charts of one evaluation: its clients beside each other, residuals, and the ROC curve."""

from matplotlib.ticker import MaxNLocator

from fededge.documents import Evaluation
from fededge.report.drawing import COLORS, label, styled, svg
from fededge.report.formatting import score, titled


def clients_chart(evaluation: Evaluation | None) -> str:
    """The clients' scores from the lowest to the highest, beside that on the held-out examples.

    Returns:
        An SVG element; "" with fewer than two clients.
    """
    if evaluation is None or len(evaluation.clients) < 2:
        return ""
    scores = sorted(client.score for client in evaluation.clients)
    name = label(titled(evaluation.metric))
    with styled(5.2, 2.6) as (figure, axes):
        axes.plot(range(1, len(scores) + 1), scores, "o", color=COLORS["federated"])
        axes.axhline(evaluation.score, color=COLORS["centralized"], dashes=(4, 3))
        axes.margins(y=0.15)
        axes.set_xlabel("clients, from the lowest score to the highest")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")
        lowest, highest, whole = (
            score(value, evaluation.metric) for value in (scores[0], scores[-1], evaluation.score)
        )
        described = f"{len(scores)} clients, from {lowest} to {highest}; {whole} on the held-out examples."
        return svg(figure, "clients", f"{name} of the clients", described)


def residuals_chart(evaluation: Evaluation | None, unit: str) -> str:
    """Output minus target over output, of some held-out examples; "" where no numbers are predicted.

    Args:
        evaluation: of the model.
        unit: of the numbers; "" for none.
    """
    if evaluation is None or not evaluation.residuals:
        return ""
    outputs, errors = zip(*evaluation.residuals, strict=True)
    of = f" ({label(unit)})" if unit else ""
    with styled(5.2, 3.0) as (figure, axes):
        axes.plot(outputs, errors, "o", color=COLORS["federated"], markersize=3, alpha=0.6)
        axes.axhline(0.0, color=COLORS["muted"], linewidth=1.0)
        axes.set_xlabel(f"output{of}")
        axes.set_ylabel(f"output minus target{of}")
        axes.grid()
        least, most = min(errors), max(errors)
        described = (
            f"{len(errors)} examples: output minus target lies between {least:.4g} and {most:.4g}{of}."
        )
        return svg(figure, "residuals", "Residuals on held-out data", described)


def roc_chart(evaluation: Evaluation | None) -> str:
    """The ROC curve of the second of two classes; "" where there are not two."""
    if evaluation is None or not evaluation.roc:
        return ""
    false, true, _ = zip(*evaluation.roc, strict=True)
    with styled(3.6, 3.2) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=COLORS["muted"], dashes=(4, 3), linewidth=1.0)
        axes.plot(false, true, color=COLORS["federated"])
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid()
        area = evaluation.metrics.get("auc")
        described = "" if area is None else f" The area under it is {area:.4f}."
        return svg(
            figure,
            "roc",
            "ROC curve on held-out data",
            f"True over false positive rate of the second class.{described}",
        )
