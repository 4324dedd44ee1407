from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def relearn_attack(
    name: str,
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    model: Input[Model],
    code_digest: str,
    relearning: Output[Artifact],
    metrics: Output[Metrics],
    base: Optional[Input[Model]] = None,
    label: str = "",
):
    """Try to bring the knowledge back by fine-tuning a model on part of the forget set (Section 4.5).

    Args:
        name: Which model this is: unlearned, or the controls vanilla and retrained.
        settings: JSON of the `relearn` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        model: A full model, or a delta.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        base: The model a delta is applied to; absent for a full model.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        relearning: relearning.json: accuracy before and after, per sampling and share.
        metrics: The relearning gaps.
    """
    from pathlib import Path

    from unsee.sections import RelearnSettings
    from unsee.steps import relearn_attack
    from unsee.steps.component import paths, running

    section = RelearnSettings.model_validate_json(settings)
    inputs = paths(benchmark=benchmark, model=model, out=relearning)
    given = Path(base.path) if base else None
    with running(f"relearn-{name}{label}", metrics) as step:
        step.show(relearn_attack.run(section, **inputs, base=given, forget=forget, name=name, tracker=step.tracker))
