"""The page of the experiment: what was measured here beside what the paper reports."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.edge import charts, paper
from benchmarks.edge.results import read

WIDTH = 120
INTRODUCTION = """# The serverless edge experiment

The experiment of Ta Phuong Bac, Minh Ngoc Tran and YoungHan Kim 2022, *Serverless Computing Approach for Deploying
Machine Learning Applications in Edge Layer*, section IV, done with FedEdge: the paper's CNN of 317,066 parameters learns
handwritten digits at three nodes, and functions under a limit of processor time train and serve it. The paper's numbers
are those of its text. It does not tell its data split, its optimizer and its learning rate, and its machines are other
ones: compare shapes, not seconds. This measures and writes the page:

```sh
.venvs/platform/bin/python -m benchmarks.seed_serverless_edge --mnist mnist.npz --output docs/serverless-edge
```
"""


def write(folder: Path) -> Path:
    """Write `folder`/README.md and its charts from the JSON files of the parts that are there."""
    found = {part: read(folder, part) for part in ("learning", "training", "serving", "functions")}
    text = [INTRODUCTION]
    if learning := found["learning"]:
        charts.accuracy(learning["rows"], folder / "accuracy.svg")
        text.append(_learning(learning))
    if training := found["training"]:
        charts.seconds(training["rows"], "epochs", ("warm", "cold", "training"), folder / "training.svg")
        text.append(_training(training))
    if serving := found["serving"]:
        charts.seconds(serving["rows"], "images", ("warm", "cold"), folder / "serving.svg")
        text.append(_serving(serving))
    measured = {part: told for part in paper.MEGABYTES if (told := found[part])}
    if measured:
        text.append(_memory(measured))
    if functions := found["functions"]:
        text.append(_functions(functions))
    file = folder / "README.md"
    file.write_text("\n\n".join(_wrapped(block) for block in "\n".join(text).split("\n\n")) + "\n")
    return file


def plateau(rows: Sequence[Mapping[str, Any]], within: float = 0.005) -> int:
    """The first round whose global accuracy is at most `within` below the best."""
    best = max(row["global"] for row in rows)
    return next(int(row["round"]) for row in rows if row["global"] >= best - within)


def _learning(told: Mapping[str, Any]) -> str:
    rows, images = told["rows"], told["images"]
    last = rows[-1]
    number = plateau(rows)
    shown = [
        row for row in rows if row["round"] in (1, 2, 3, 5, number, last["round"]) or not row["round"] % 5
    ]
    names = list(paper.ACCURACY)
    lines = [
        [f"{row['round']}", *(f"{100 * row[name]:.1f} %" for name in names), f"{row['loss']:.3f}"]
        for row in shown
    ]
    lines.append(["paper, 50", *(f"{100 * paper.ACCURACY[name]:.0f} %" for name in names), ""])
    held = ", ".join(f"{name} {images[name]:,}" for name in names if name != "global")
    second = rows[min(1, len(rows) - 1)]
    return f"""## Accuracy by round (its figures 4 and 5)

{told["data"]}; training images: {held}. Of the digits 7, 8 and 9 node-3 holds three quarters, and of the others 1 %.
Each round is ten local epochs of SGD (learning rate 0.05, batches of 32, dropout 0.25) at each node, in the simulation
engine. A node's column is the new global model's accuracy on the node's own training images; `global` is on
{images["global"]:,} images that no node has. The run ends when six rounds gain less than 0.1 points. {_conditions(told)}

![Accuracy by round](accuracy.svg)

{_table(["round", *names, "loss"], lines)}

The paper's global model reaches 82 % and stops gaining after about {paper.PLATEAU} rounds. Here it has
{100 * second["global"]:.1f} % after round {second["round"]} and {100 * last["global"]:.1f} % after round {last["round"]},
and comes within half a point of its best at round {number}. As in the paper one node lags: node-3 is
{_points(rows[0])} points behind the mean of the others after round 1, and {_points(last)} after the last. In the paper it
stays 20 points behind to the end; here the lag closes as rounds go on.
"""


def _points(row: Mapping[str, Any]) -> str:
    return f"{100 * ((row['node-1'] + row['node-2']) / 2 - row['node-3']):.1f}"


def _training(told: Mapping[str, Any]) -> str:
    lines = [
        [
            f"{row['epochs']}",
            *(f"{row[kind]:.2f}" for kind in ("training", "warm", "cold")),
            f"{row['warm'] - row['training']:.2f}",
            f"{row['cold'] - row['training']:.2f}",
        ]
        for row in told["rows"]
    ]
    names = ["epochs", "training s", "warm s", "cold s", "warm adds s", "cold adds s"]
    return f"""## Training's answer (its figure 6)

From asking a node with {told["images"]:,} images to train until its update is there, under {told["limit"]}; the
faster of two. Warm: the node's process runs and has its plan loaded. Cold: it starts, imports TensorFlow and loads the
plan first. {_conditions(told)}

![Seconds by epochs](training.svg)

{_table(names, lines)}

In the paper a warm start adds {paper.WARM_TRAINING:g} s and a cold one about {paper.COLD_TRAINING:g} s, whatever the
number of epochs.
"""


def _serving(told: Mapping[str, Any]) -> str:
    lines = [[f"{row['images']:,}", f"{row['warm']:.3f}", f"{row['cold']:.3f}"] for row in told["rows"]]
    return f"""## Serving's answer (its figure 7)

From sending images (uint8, over REST) to Seldon's server with the float32 variant until all answers are there, under
{told["limit"]}; the fastest of three. Cold: no server runs, and the time begins when one is started. {_conditions(told)}

![Seconds by images](serving.svg)

{_table(["images", "warm s", "cold s"], lines)}

The paper reports about {paper.WARM_SERVING:g} s warm and {paper.COLD_SERVING:g} s cold for fewer than 500 images, and
times that grow with the images beyond.
"""


def _memory(measured: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for part, told in measured.items():
        limit, used = paper.MEGABYTES[part], told["megabytes"]
        verdict = f"does not fit, by {used - limit:.0f} MB" if used > limit else "fits"
        lines.append([part, f"{limit}", f"{used:.0f}", verdict])
    return f"""## Memory

The most that the function's processes held while they did the work above, with the program files that they map,
sampled five times a second, beside what the paper gives its functions. Memory was not limited.

{_table(["function", "paper MB", "peak MB", ""], lines)}

Training is TensorFlow's own import and runtime before it is the model. Serving is Seldon's server in Python with LiteRT,
and what it holds of a request of up to 10,000 images.
"""


def _functions(told: Mapping[str, Any]) -> str:
    parts = {"training": told["training"], "serving": told["rows"]}
    by = {"training": "epochs", "serving": "images"}
    lines = []
    for part, rows in parts.items():
        for row in rows:
            limit, used = paper.MEGABYTES[part], row["megabytes"]
            verdict = f"{used:.0f} of {limit}" + ("" if used <= limit else ", does not fit")
            times = [f"{row[kind]:.3f}" for kind in ("warm", "cold")]
            lines.append([part, f"{row['amount']:,} {by[part]}", *times, verdict])
    return f"""## The same with functions of LiteRT

Training and answering as processes of LiteRT that start, answer and stop ([functions](../guides/functions.md)): the same
model, plan and node, {told["trains"]} for training and {told["answers"]} for serving. A cold request's time begins when
the process is started. Memory is the most that the process had resident, mapped files included. {_conditions(told)}

{_table(["function", "asked", "warm s", "cold s", "MB"], lines)}

A cold start adds {_added(told["training"])} s to training and {_added(told["rows"])} s to the answer for one image, where
the paper reports about {paper.COLD_TRAINING:g} s for either.
"""


def _added(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"{rows[0]['cold'] - rows[0]['warm']:.2f}"


def _conditions(told: Mapping[str, Any]) -> str:
    machine = (
        f"Measured on {told['processors']} processors ({told['processor']}) under a load of {told['load']}"
    )
    if told["load"] > 1.2 * told["processors"]:
        return f"{machine}: they were shared with other work, so seconds are longer than alone."
    return f"{machine}."


def _wrapped(block: str) -> str:
    """A paragraph in lines of WIDTH; tables, code, headings and charts as they are."""
    if block.lstrip().startswith(("|", "#", "!", "```")):
        return block.strip("\n")
    return textwrap.fill(" ".join(block.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [names, ["---"] * len(names), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
