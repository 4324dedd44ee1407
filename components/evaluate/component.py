from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    name: str,
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    model: Input[Model],
    code_digest: str,
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    base: Optional[Input[Model]] = None,
    label: str = "",
):
    """Ask a model every evaluation question and score its answers.

    Args:
        name: Which model this is: vanilla, retrained or unlearned.
        settings: JSON of the `evaluation` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        model: A full model, or a delta.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        base: The model a delta is applied to; absent for a full model.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        evaluation: metrics.json and predictions.parquet, one row per question.
        metrics: The scores, under the same names for every model.
    """
    from pathlib import Path

    from unsee.sections import EvaluationSettings
    from unsee.steps import evaluate
    from unsee.steps.component import paths, running

    section = EvaluationSettings.model_validate_json(settings)
    inputs = paths(benchmark=benchmark, model=model, out=evaluation)
    given = Path(base.path) if base else None
    with running(f"evaluate-{name}{label}", metrics) as step:
        step.show(evaluate.run(section, **inputs, base=given, forget=forget, name=name, tracker=step.tracker))
