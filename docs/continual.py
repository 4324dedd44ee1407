"""Deletion requests one after another on the embedded model: `python docs/continual.py --requests 20 --out DIR`.

Every request goes through the command line as a user's would: it is added to the inbox, and the continual pipeline
answers it; vanilla is built once. Writes `continual.json`, and `continual.png`: what the model answers about everybody
who asked so far, about the one of them it answers best, and about everyone else, after each request.

It may be killed at any moment: the same command goes on where it was, and what was measured stays.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from matplotlib.figure import Figure

from unsee.code import code_digest

RETAIN, REALWORLD = "retain/vqa/heldout_accuracy", "realworld/vqa/heldout_accuracy"
MODELS = ("vanilla", "unlearned")
CLAIMED, ANSWERED = "claimed by run ", ("honoured", "not_honoured", "unmatched", "invalid")
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
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    lock = alone(given.out)
    asked = {"people": given.people, "seed": given.seed, "set": given.set}
    write(given.out / "asked.json", first_of(given.out / "asked.json", asked, "other options"))
    code = {"code_digest": code_digest()}
    write(given.out / "code.json", first_of(given.out / "code.json", code, "other code"))
    points = []
    for number in range(1, given.requests + 1):
        points.append(point(number, answered(given, number)))
        write(given.out / "continual.json", points)
        print(told(points), flush=True)
    plot(points).savefig(given.plot or given.out / "continual.png", dpi=150)
    lock.close()


def alone(out: Path) -> TextIO:
    """A lock of the directory, held by this process and by commands that outlive it; ends the program if it is held."""
    out.mkdir(parents=True, exist_ok=True)
    lock = (out / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another process is at work in {out}; wait for it, or stop it")
    os.set_inheritable(lock.fileno(), True)
    return lock


def write(file: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    temporary = file.with_suffix(".unfinished")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    temporary.replace(file)


def first_of(file: Path, value: Any, what: str) -> Any:
    """The value, if it is that of the first attempt, which the file holds; ends the program otherwise."""
    if file.exists() and (first := json.loads(file.read_text())) != value:
        sys.exit(f"{file.parent} was begun with {what}: {first}, not {value}; give another --out")
    return value


def answered(given: argparse.Namespace, number: int) -> Any:
    """`answers.json` of the request of this number, which is filed and answered unless it has been."""
    out, name = given.out / f"{number:02d}", f"request-{number:02d}"
    if not (out / "answers.json").exists():
        outcomes = states(given.out)
        if name not in outcomes:
            first = (number - 1) * given.people + 1
            people = ",".join(f"P{person:03d}" for person in range(first, first + given.people))
            unsee(given.out, "add", "--id", name, "--entities", people)
        for run in {state.removeprefix(CLAIMED) for state in outcomes.values() if state.startswith(CLAIMED)}:
            unsee(given.out, "release", run)  # of an attempt that was killed: there is nobody else here
        if outcomes.get(name) not in ANSWERED:
            settings = [part for setting in given.set for part in ("--set", setting)]
            unsee(given.out, "answer", "--out", str(out), "--seed", str(given.seed), *settings)
        else:  # killed before the answers were brought to their place
            write(out / "answers.json", json.loads(newest(given.out, name).read_text()))
    return json.loads((out / "answers.json").read_text())


def states(out: Path) -> dict[str, str]:
    """What became of each request: open, claimed by a run, or its answer."""
    lines = (line.split("\t") for line in unsee(out, "list").splitlines())
    return {name: state for name, state, _ in lines}


def newest(out: Path, name: str) -> Path:
    """The last `answers.json` with this request among the artifacts of all runs."""
    found = sorted(out.glob(".unsee/artifacts/*/*/answer-requests*/answers/answers.json"))
    return [file for file in found if name in json.loads(file.read_text())["certificates"]][-1]


def point(number: int, answers: dict[str, Any]) -> Point:
    """What was measured after the request of this number."""
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


def unsee(out: Path, *arguments: str) -> str:
    """Run a command on the requests in the store below `out`; what it printed is shown, and returned."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["UNSEE_STORE"] = (out.resolve() / "store").as_uri()
    command = [sys.executable, "-c", "from unsee.cli import main; main()", "requests", *arguments]
    lines = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, close_fds=False) as run:
        try:
            for line in run.stdout or ():
                lines.append(line)
                print(line, end="", flush=True)
        except BaseException:
            run.terminate()  # it stops its steps, and ends its turn
            raise
    if run.returncode:
        sys.exit(run.returncode)
    return "".join(lines)


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
