from typing import Optional

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def answer_requests(
    preset: str,
    settings: dict,
    forget: list[str],
    batch: Input[Artifact],
    benchmark: Input[Dataset],
    vanilla: Input[Model],
    unlearned: Input[Model],
    statistics: Input[Artifact],
    pruning: Input[Artifact],
    vanilla_evaluation: Input[Artifact],
    unlearned_evaluation: Input[Artifact],
    answers: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
    retrained: Optional[Input[Model]] = None,
    retrained_evaluation: Optional[Input[Artifact]] = None,
):
    """Judge the unlearned model, make it the champion or say why not, certify and record that; never cached.

    Args:
        preset: Names the registered model.
        settings: Every section's JSON by its name.
        forget: Ids of everybody who ever asked.
        batch: What match-requests found.
        benchmark: Benchmark directory.
        vanilla: The model that knew too much.
        unlearned: The delta that makes it forget.
        statistics: What collect-statistics measured.
        pruning: The neurons removed.
        vanilla_evaluation: Scores and predictions of vanilla.
        unlearned_evaluation: Scores and predictions of the unlearned model.
        retrained: A model that never saw them, if one was built.
        retrained_evaluation: Scores and predictions of that model.

    Returns:
        answers: answers.json and answers.html: what is certified of all requests of this run together.
        page: answers.html once more, shown by the KFP UI.
        metrics: The unlearned model's metrics, and how many requests were honoured.
    """
    import shutil

    from unsee.steps import answer_requests, component

    given: dict = component.paths(batch=batch, benchmark=benchmark, statistics=statistics, pruning=pruning, out=answers)
    given["models"] = component.paths(vanilla=vanilla, unlearned=unlearned, retrained=retrained)
    scores = {"vanilla": vanilla_evaluation, "unlearned": unlearned_evaluation, "retrained": retrained_evaluation}
    given |= {"evaluations": component.paths(**scores), "preset": preset, "settings": settings, "forget": forget}
    given |= {"uris": {"vanilla": vanilla.uri, "unlearned": unlearned.uri}, **component.turn()}
    with component.running("answer-requests", metrics) as step:
        step.show(answer_requests.run(**given, tracker=step.tracker))
        shutil.copyfile(f"{answers.path}/answers.html", page.path)
