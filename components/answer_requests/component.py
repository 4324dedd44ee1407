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

    from unsee.requests.turn import this_run
    from unsee.steps import answer_requests
    from unsee.steps.component import paths, running
    from unsee.storage.transfer import store_root

    inputs: dict = paths(batch=batch, benchmark=benchmark, statistics=statistics, pruning=pruning, out=answers)
    built = {"retrained": retrained} if retrained else {}
    scored = {"retrained": retrained_evaluation} if retrained_evaluation else {}
    inputs["models"] = paths(vanilla=vanilla, unlearned=unlearned, **built)
    inputs["evaluations"] = paths(vanilla=vanilla_evaluation, unlearned=unlearned_evaluation, **scored)
    inputs |= {"preset": preset, "settings": settings, "forget": forget}
    inputs["uris"] = {"vanilla": vanilla.uri, "unlearned": unlearned.uri}
    with running("answer-requests", metrics) as step:
        step.show(answer_requests.run(root=store_root(), run_id=this_run(), **inputs, tracker=step.tracker))
        shutil.copyfile(f"{answers.path}/answers.html", page.path)
