"""The continual DAG: from the deletion requests that came in to a new champion, their certificates and the journal.

Everything starts from the vanilla model and its data, whoever was forgotten before: features are held to those of the
vanilla model, changes are a delta on it, and everybody who ever asked is in the forget set. So nothing drifts, and
nobody comes back.
"""

from typing import Any

from kfp import dsl

from unsee_components.answer_requests.component import answer_requests
from unsee_components.build_retrained.component import build_retrained
from unsee_components.build_vanilla.component import build_vanilla
from unsee_components.claim_requests.component import claim_requests
from unsee_components.collect_statistics.component import collect_statistics
from unsee_components.evaluate.component import evaluate
from unsee_components.finish.component import finish
from unsee_components.match_requests.component import match_requests
from unsee_components.prepare_benchmark.component import prepare_benchmark
from unsee_components.prune.component import prune
from unsee_components.resolve_settings.component import resolve_settings
from unsee_components.unlearn.component import unlearn
from unsee_pipelines.tasks import Machine, heavy, light


def _unlearned(
    settings: dict[str, Any], common: dict[str, Any], machine: Machine
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What comes of unlearning, and the evaluations of the model before and after."""
    shared = {name: common[name] for name in ("benchmark", "code_digest")}
    vanilla = heavy(build_vanilla(settings=settings["vanilla"], **shared), machine).outputs["model"]
    measured = collect_statistics(settings=settings["statistics"], model=vanilla, **common)
    statistics = heavy(measured, machine).outputs["statistics"]
    chosen = prune(settings=settings["prune"], statistics=statistics, code_digest=common["code_digest"])
    pruning = light(chosen).outputs["pruning"]
    made = {"vanilla": vanilla, "statistics": statistics, "pruning": pruning}
    unlearned = heavy(unlearn(settings=settings["unlearn"], **made, **common), machine).outputs["model"]
    evaluations = {}
    for name, models in {"vanilla": {"model": vanilla}, "unlearned": {"model": unlearned, "base": vanilla}}.items():
        scored = evaluate(name=name, settings=settings["evaluation"], **models, **common)
        scored.set_display_name(f"evaluate-{name}")
        evaluations[f"{name}_evaluation"] = heavy(scored, machine).outputs["evaluation"]
    return {**made, "unlearned": unlearned}, evaluations


@dsl.pipeline(name="unsee-continual")
def continual(
    preset: str = "embedded",
    method: str = "vkd",
    overrides: list[str] = [],  # noqa: B006 (KFP takes defaults as they are)
    config: str = "",
    benchmark: str = "",
    benchmark_digest: str = "",
    reference: bool = False,
    retry: bool = False,
    seed: int = 0,
    code_digest: str = "",
    cpu: str = "2",
    memory: str = "4G",
    gpus: str = "0",
    accelerator: str = "nvidia.com/gpu",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
):
    """Make the model in service forget everybody who asked for it; without open requests nothing happens.

    Args:
        preset: Name of the settings to start from: embedded, or a model and a published benchmark, llava-1.5-7b-mllmu,
            llava-1.5-7b-clear, qwen2-vl-7b-mllmu, qwen2-vl-7b-clear.
        method: Unlearning method.
        overrides: Settings to change, a JSON list such as ["unlearn.beta=0.3", "prune.threshold.fraction=0.1"].
        config: Settings to change, as YAML text of the preset's shape; overrides win over it.
        benchmark: Benchmark, a directory or an address (s3://…); empty: the preset's own.
        benchmark_digest: Digest of the manifest of a benchmark directory; a changed one makes the run start anew.
        reference: Whether to build a model that never saw these people, to measure against; it takes a training.
        retry: Whether to take on requests that were not honoured, even if there are no others.
        seed: Seed of everything random.
        code_digest: Identity of code and library versions where the image does not give it (local runs).
        cpu: Cores of each step that holds a model.
        memory: Memory of each step that holds a model.
        gpus: GPUs of each step that holds a model, a whole number.
        accelerator: What the cluster calls its GPUs.
        node_selector: Labels of the nodes such steps run on, JSON such as {"pool": "gpu"}; empty: any.
        tolerations: Taints of nodes such steps may run on all the same, a JSON list as in a pod.
    """
    machine = Machine(cpu, memory, gpus, accelerator, node_selector, tolerations)
    with dsl.ExitHandler(light(finish(requests=True), cached=False)):
        claimed = light(claim_requests(retry=retry), cached=False).outputs["Output"]
        with dsl.If(claimed > 0, name="open-requests"):
            resolved = resolve_settings(
                preset=preset,
                method=method,
                overrides=overrides,
                config=config,
                seed=seed,
                given_benchmark=benchmark,
                code_digest=code_digest,
            )
            settings = light(resolved).outputs
            prepared = prepare_benchmark(
                settings=settings["benchmark"],
                source=benchmark,
                source_digest=benchmark_digest,
                code_digest=code_digest,
            )
            questions = light(prepared).outputs["benchmark"]
            matched = light(match_requests(benchmark=questions), cached=False).outputs
            with dsl.If(matched["people"] > 0, name="people-to-forget"):
                common = {"benchmark": questions, "forget": matched["forget"], "code_digest": code_digest}
                made, evaluations = _unlearned(settings, common, machine)
                judged: dict[str, Any] = {"preset": preset, "settings": settings["sections"], **made, **evaluations}
                judged |= {name: common[name] for name in ("benchmark", "forget")}
                judged |= {"batch": matched["batch"]}
                with dsl.If(reference == True, name="with-reference"):  # noqa: E712 (a condition of the DAG)
                    retrained = heavy(build_retrained(settings=settings["vanilla"], **common), machine).outputs["model"]
                    scored = evaluate(name="retrained", settings=settings["evaluation"], model=retrained, **common)
                    heavy(scored.set_display_name("evaluate-retrained"), machine)
                    answered = answer_requests(
                        retrained=retrained, retrained_evaluation=scored.outputs["evaluation"], **judged
                    )
                    light(answered.set_display_name("answer-requests"), cached=False)
                with dsl.Else(name="without-reference"):
                    light(answer_requests(**judged).set_display_name("answer-requests"), cached=False)
