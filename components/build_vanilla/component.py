from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_vanilla(
    settings: str,
    benchmark: Input[Dataset],
    code_digest: str,
    model: Output[Model],
    metrics: Output[Metrics],
    label: str = "",
):
    """Fine-tune the base model on everyone: the model that knows too much.

    Args:
        settings: JSON of the `vanilla` settings.
        benchmark: Benchmark directory.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        model: The vanilla model, a Hugging Face folder with history.json.
        metrics: How the training ended.
    """
    from unsee.sections import FINETUNING
    from unsee.steps import build_vanilla
    from unsee.steps.component import paths, running

    section = FINETUNING.validate_json(settings)
    with running(f"build-vanilla{label}", metrics) as step:
        step.show(build_vanilla.run(section, **paths(benchmark=benchmark, out=model), tracker=step.tracker))
