"""All steps of a run in this process, into one directory."""

from dataclasses import dataclass
from pathlib import Path

from unsee.settings import Settings
from unsee.steps import (
    build_retrained,
    build_vanilla,
    collect_statistics,
    evaluate,
    prepare_benchmark,
    prune,
    register,
    relearn_attack,
    report,
    unlearn,
)
from unsee.tracking import NoTracker


class Recorder(NoTracker):
    """Keeps what a step tells its tracker."""

    def __init__(self):
        self.params, self.metrics, self.artifacts = {}, [], []

    def log_params(self, params):
        self.params.update(params)

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, dict(metrics)))

    def log_artifact(self, path):
        self.artifacts.append(path.name)


@dataclass(frozen=True)
class TinyRun:
    """Directories, returned metrics and trackers of the steps, by step name."""

    root: Path
    settings: Settings
    returned: dict[str, dict[str, float]]
    trackers: dict[str, Recorder]

    def __getitem__(self, step: str) -> Path:
        return self.root / step

    def step(self, name, run, *arguments):
        """Run a step into the directory of its name."""
        self.trackers[name] = Recorder()
        self.returned[name] = run(*arguments, self.root / name, self.trackers[name])


def through_all_steps(run, source, name="unlearned"):
    """prepare → vanilla → retrained → statistics → prune → unlearn → evaluate → relearn; `name` is the unlearned
    model's. `reported` does the rest."""
    settings, benchmark, everybody = run.settings, run["benchmark"], []
    run.step("benchmark", prepare_benchmark.run, source)
    run.step("vanilla", build_vanilla.run, settings.vanilla, benchmark)
    run.step("retrained", build_retrained.run, settings.vanilla, benchmark, everybody)
    run.step("statistics", collect_statistics.run, settings.statistics, benchmark, everybody, run["vanilla"])
    run.step("pruning", prune.run, settings.prune, run["statistics"])
    inputs = (run["vanilla"], run["statistics"], run["pruning"], run["retrained"])
    run.step(name, unlearn.run, settings.unlearn, benchmark, everybody, *inputs)
    for model, base in (("vanilla", None), ("retrained", None), (name, run["vanilla"])):
        examined = (benchmark, everybody, model, run[model], base)
        run.step(f"evaluation-{model}", evaluate.run, settings.evaluation, *examined)
        run.step(f"relearning-{model}", relearn_attack.run, settings.relearn, *examined)
    return run


def reported(run):
    """report → register, after all other steps."""
    made = {name: run[name] for name in ("vanilla", "retrained", "unlearned")}
    measured = {
        kind: {name: run[f"{of}-{name}"] for name in made}
        for kind, of in {"evaluations": "evaluation", "relearning": "relearning"}.items()
    }
    before = {name: run[name] for name in ("benchmark", "statistics", "pruning")}
    settings = {name: section.model_dump_json() for name, section in run.settings if name != "preset"}
    run.step("report", keywords(report.run, forget=[], settings=settings, **before, **made, **measured))
    models = {"vanilla": run["vanilla"], "unlearned": run["unlearned"], "summary": run["report"]}
    run.step("registration", keywords(register.run, preset=run.settings.preset, **models))
    return run


def keywords(step, **given):
    """The step, of `out` and `tracker` alone."""
    return lambda out, tracker: step(**given, out=out, tracker=tracker)
