from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def unlearn(
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    vanilla: Input[Model],
    statistics: Input[Artifact],
    pruning: Input[Artifact],
    code_digest: str,
    model: Output[Model],
    metrics: Output[Metrics],
    retrained: Optional[Input[Model]] = None,
    label: str = "",
):
    """Make the vanilla model forget (Eq. 3-5 and 11) and store what changed.

    Args:
        settings: JSON of the `unlearn` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        vanilla: The model that knows too much.
        statistics: What collect-statistics measured.
        pruning: The neurons to remove.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        retrained: The reference model, for the methods that look at it.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        model: A delta on the vanilla model, with history.json, mask.json and pruned.json.
        metrics: How the training ended, and what it cost.
    """
    import json
    from pathlib import Path

    from unsee.steps import unlearn
    from unsee.steps.component import paths, running
    from unsee.unlearning.method import settings_of

    section = settings_of(json.loads(settings))
    inputs: dict = paths(benchmark=benchmark, statistics=statistics, pruning=pruning, model=vanilla, out=model)
    inputs["retrained"] = Path(retrained.path) if retrained else None
    with running(f"unlearn{label}", metrics) as step:
        step.show(unlearn.run(section, **inputs, forget=forget, tracker=step.tracker))
