from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prune(
    settings: str,
    statistics: Input[Artifact],
    code_digest: str,
    pruning: Output[Artifact],
    metrics: Output[Metrics],
    label: str = "",
):
    """Choose the neurons to remove: those that matter to the forget set far more than to the others (Eq. 8).

    Args:
        settings: JSON of the `prune` settings.
        statistics: What collect-statistics measured.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        pruning: pruned.safetensors (bool per neuron and layer) and pruning.json.
        metrics: Share of neurons removed.
    """
    from unsee.sections import PruneSettings
    from unsee.steps import prune
    from unsee.steps.component import paths, running

    section = PruneSettings.model_validate_json(settings)
    with running(f"prune{label}", metrics) as step:
        step.show(prune.run(section, **paths(statistics=statistics, out=pruning), tracker=step.tracker))
