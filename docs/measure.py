"""Run the embedded preset at several seeds and tabulate what came of it: `python docs/measure.py --seeds 3 --out DIR`.

Every run goes through the command line as a user's would; runs of a seed share vanilla, retrained and statistics.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from unsee.settings import load_settings

MODELS = ("vanilla", "retrained", "unlearned")
MASK_ON = ("update", "forget_gradient")
MEASURES = {
    "VQA, training portraits": "vqa/accuracy",
    "VQA, held-out portraits": "vqa/heldout_accuracy",
    "QA": "qa/accuracy",
    "QA with face": "qa_with_face/accuracy",
}
SPLITS = {"forget": "forget", "retain": "retain", "realworld": "real-world"}
GAPS = ("gap_vanilla", "gap_control", "gap")
Summary = dict[str, Any]


def main() -> None:
    """Run, then write `results.json` (the summaries, by mask_on and seed) and `results.md` into --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--out", type=Path, required=True, help="directory for the runs and the results")
    parser.add_argument("--mask-on", choices=["default", "both"], default="default", help="which forms of the mask")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting to change")
    request = parser.parse_args()
    default = load_settings("embedded").unlearn.mask_on
    forms = [default, *(form for form in MASK_ON if form != default and request.mask_on == "both")]
    results = {form: [run(request, form, seed) for seed in range(request.seeds)] for form in forms}
    (request.out / "results.json").write_text(json.dumps(results, indent=2, sort_keys=True))
    (request.out / "results.md").write_text("\n".join(page(results)) + "\n")


def run(request: argparse.Namespace, mask_on: str, seed: int) -> Summary:
    """The summary of one run."""
    directory = request.out / f"{mask_on}-{seed}"
    settings = (f"--set={setting}" for setting in (f"unlearn.mask_on={mask_on}", *request.set))
    given = ["--preset", "embedded", "--method", "vkd", "--seed", str(seed), *settings]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [str(Path(sys.executable).with_name("unsee")), "run", *given, "--out", str(directory)]
    subprocess.run(command, check=True, env=environment)
    return json.loads((directory / "summary.json").read_text())


def page(results: dict[str, list[Summary]]) -> Iterator[str]:
    """The markdown page: how it was made, then a table for each form of the mask."""
    first = next(iter(results.values()))[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    yield f"    {shlex.join(['python', *sys.argv])}\n"
    yield f"{versions}; {platform.machine()}, {os.cpu_count()} processors."
    yield f"Accuracies, distances and gaps in %; three figures in a cell are {' / '.join(MODELS)}."
    for mask_on, summaries in results.items():
        yield f"\n## unlearn.mask_on: {mask_on}\n"
        yield from table(summaries)


def table(summaries: Sequence[Summary]) -> Iterator[str]:
    """A row per kind of figure, a column per seed and one for their mean."""
    titles = ["", *(f"seed {summary['seed']}" for summary in summaries), "mean"]
    yield line(titles)
    yield line(["---", *["---:"] * (len(titles) - 1)])
    columns = [dict(figures(summary)) for summary in summaries]
    for name in columns[0]:
        cells = [column[name] for column in columns]
        yield line([name, *map(shown, cells), shown([mean(values) for values in zip(*cells, strict=True)])])


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(values: Sequence[float | None]) -> str:
    return " / ".join("–" if value is None else f"{value:.1f}" for value in values)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean over seeds, None if one is missing."""
    found = [value for value in values if value is not None]
    return fmean(found) if len(found) == len(values) else None


def figures(summary: Summary) -> Iterator[tuple[str, list[float | None]]]:
    """The rows of a run: what was measured, and its figures."""
    for split, who in SPLITS.items():
        for title, measure in MEASURES.items():
            values = [summary["models"][model][f"{split}/{measure}"] for model in MODELS]
            yield f"{who} {title}", percent(values)
    for title, measure in MEASURES.items():
        value = summary["distance_to_retrained"][f"forget/{measure}"]
        yield f"forget {title}, distance to retrained", percent([value])
    for sampling, attacks in summary["relearning"].items():
        for budget, attack in attacks.items():
            yield f"gap after relearning from {budget} % ({sampling})", percent([attack[gap] for gap in GAPS])
    for step, seconds in summary["timing"].items():
        yield f"{step}, s", [seconds]
    yield "all of these, s", [sum(summary["timing"].values())]


def percent(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else 100 * value for value in values]


if __name__ == "__main__":
    main()
