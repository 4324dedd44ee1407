"""Deletion requests one after another on the embedded model: `python docs/continual.py --requests 20 --out DIR`.

Every request goes through the command line as a user's would: it is added to the inbox, and the continual pipeline
answers it; vanilla is built once. Writes `continual.json`, and `continual.png`: what the model answers about everybody
who asked so far, about the one of them it answers best, and about everyone else, after each request.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RETAIN, REALWORLD = "retain/vqa/heldout_accuracy", "realworld/vqa/heldout_accuracy"
MODELS = ("vanilla", "unlearned")
Point = dict[str, Any]


def main() -> None:
    """Run, then write the figures and the plot; what is there of an earlier attempt is gone on from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20, help="how many")
    parser.add_argument("--people", type=int, default=1, help="how many people each request is about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="directory for the runs and the results")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting to change")
    parser.add_argument("--plot", type=Path, help="where the plot goes, if not into --out")
    given = parser.parse_args()
    points = [point(given, number) for number in range(1, given.requests + 1)]
    (given.out / "continual.json").write_text(json.dumps(points, indent=2, sort_keys=True) + "\n")
    plot(points).savefig(given.plot or given.out / "continual.png", dpi=150)
    print(told(points))


def point(given: argparse.Namespace, number: int) -> Point:
    """What was measured after the request of this number."""
    out = given.out / f"{number:02d}"
    if not (out / "answers.json").exists():
        first = (number - 1) * given.people + 1
        people = ",".join(f"P{person:03d}" for person in range(first, first + given.people))
        unsee(given.out, "add", "--id", f"request-{number:02d}", "--entities", people)
        settings = [part for setting in given.set for part in ("--set", setting)]
        unsee(given.out, "answer", "--out", str(out), "--seed", str(given.seed), *settings)
    answers = json.loads((out / "answers.json").read_text())
    return {
        "request": number,
        "outcome": answers["outcome"],
        "reasons": answers["reasons"],
        "people": len(answers["people"]),
        "guessing": answers["guessing"],
        "seconds": sum(answers["seconds"].values()),
        **{view: of_people(answers["people"], view) for view in ("heldout", "train")},
        "others": {metric: {m: answers["metrics"][m][metric] for m in MODELS} for metric in (RETAIN, REALWORLD)},
    }


def of_people(people: Sequence[dict[str, Any]], view: str) -> dict[str, float]:
    """Accuracy on the photographs of everybody who asked, before and after, and of who is answered best."""
    found = [person["views"][view] for person in people]
    asked = sum(each["questions"] for each in found)
    means = {model: sum(each["questions"] * each[model] for each in found) / asked for model in MODELS}
    return {**means, "highest": max(each["unlearned"] for each in found)}


def unsee(out: Path, *arguments: str) -> None:
    """Run a command on the requests in the store below `out`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["UNSEE_STORE"] = (out.resolve() / "store").as_uri()
    command = [sys.executable, "-c", "from unsee.cli import main; main()", "requests", *arguments]
    subprocess.run(command, check=True, env=environment)


def plot(points: Sequence[Point]) -> Figure:
    """Accuracy over requests."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    numbers = [each["request"] for each in points]
    curves = {
        "people who stay": [each["others"][RETAIN]["unlearned"] for each in points],
        "real-world people": [each["others"][REALWORLD]["unlearned"] for each in points],
        "everybody who asked, before": [each["heldout"]["vanilla"] for each in points],
        "everybody who asked": [each["heldout"]["unlearned"] for each in points],
        "the one answered best": [each["heldout"]["highest"] for each in points],
        "guessing": [each["guessing"] for each in points],
    }
    styles = ["#0c6f5d", "#3d5f9c", "#9a7b3f", "#a33a22", "#a33a22", "#6a675f"]
    lines = ["-", "-", "--", "-", ":", "--"]
    for (name, values), colour, style in zip(curves.items(), styles, lines, strict=True):
        axes.plot(numbers, [100 * value for value in values], style, color=colour, label=name, marker=".", markersize=4)
    axes.set(xlabel="requests answered", ylabel="answered right, %", ylim=(0, 103), xticks=numbers)
    axes.set_title("Photographs never used in training", fontsize=10, loc="left")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


def told(points: Sequence[Point]) -> str:
    """The result in words."""
    honoured = sum(each["outcome"] == "honoured" for each in points)
    lost = max(each["others"][RETAIN]["vanilla"] - each["others"][RETAIN]["unlearned"] for each in points)
    last = points[-1]
    asked = {name: f"{100 * value:.1f} %" for name, value in last["heldout"].items()}
    return (
        f"{honoured} of {len(points)} requests honoured; at the end, unseen photographs of the {last['people']} people "
        f"who asked are answered right in {asked['unlearned']} of the questions (before: {asked['vanilla']}; the one "
        f"answered best: {asked['highest']}); the people who stay lost at most {100 * lost:.1f} points"
    )


if __name__ == "__main__":
    main()
