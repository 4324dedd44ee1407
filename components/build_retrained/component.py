from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_retrained(
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    code_digest: str,
    model: Output[Model],
    metrics: Output[Metrics],
    label: str = "",
):
    """Fine-tune the base model on everyone but the forget set: the reference that never knew.

    Args:
        settings: JSON of the `vanilla` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        model: The retrained model, a Hugging Face folder with history.json.
        metrics: How the training ended.
    """
    from unsee.sections import FINETUNING
    from unsee.steps import build_retrained
    from unsee.steps.component import paths, running

    section = FINETUNING.validate_json(settings)
    inputs = paths(benchmark=benchmark, out=model)
    with running(f"build-retrained{label}", metrics) as step:
        step.show(build_retrained.run(section, **inputs, forget=forget, tracker=step.tracker))
