from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def relearn_attack(
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    unlearned: Input[Model],
    vanilla: Input[Model],
    retrained: Input[Model],
    code_digest: str,
    relearning: Output[Artifact],
    metrics: Output[Metrics],
):
    """Try to bring the knowledge back by fine-tuning on part of the forget set (Section 4.5), with two controls.

    Args:
        settings: JSON of the `relearn` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        unlearned: The delta under attack.
        vanilla: Its base, and a control.
        retrained: The control that never knew.
        code_digest: Identity of code and library versions: part of the cache key, not read.

    Returns:
        relearning: relearning.json: accuracy before and after, per sampling and share.
        metrics: The relearning gaps.
    """
    from unsee.settings import RelearnSettings
    from unsee.steps import relearn_attack
    from unsee.steps.component import paths, running

    section = RelearnSettings.model_validate_json(settings)
    inputs = paths(benchmark=benchmark, unlearned=unlearned, vanilla=vanilla, retrained=retrained, out=relearning)
    with running("relearn-attack", metrics) as step:
        step.show(relearn_attack.run(section, **inputs, forget=forget, tracker=step.tracker))
