"""The unlearning DAG: from a benchmark and a forget request to an unlearned model, its audit and its report."""

from kfp import dsl

from unsee_components.build_retrained.component import build_retrained
from unsee_components.build_vanilla.component import build_vanilla
from unsee_components.collect_statistics.component import collect_statistics
from unsee_components.evaluate.component import evaluate
from unsee_components.finish.component import finish
from unsee_components.prepare_benchmark.component import prepare_benchmark
from unsee_components.prune.component import prune
from unsee_components.register.component import register
from unsee_components.relearn_attack.component import relearn_attack
from unsee_components.report.component import report
from unsee_components.resolve_settings.component import resolve_settings
from unsee_components.unlearn.component import unlearn
from unsee_pipelines.tasks import Machine, heavy, light


@dsl.pipeline(name="unsee-unlearn")
def unlearning(
    preset: str = "embedded",
    method: str = "vkd",
    overrides: list[str] = [],  # noqa: B006 (KFP takes defaults as they are)
    config: str = "",
    benchmark: str = "",
    benchmark_digest: str = "",
    forget: list[str] = [],  # noqa: B006
    seed: int = 0,
    code_digest: str = "",
    cpu: str = "2",
    memory: str = "4G",
    gpus: str = "0",
    accelerator: str = "nvidia.com/gpu",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
):
    """Make a multimodal LLM forget what people look like, and show that it did and what it cost.

    Args:
        preset: Name of the settings to start from: embedded, or a model and a published benchmark, llava-1.5-7b-mllmu,
            llava-1.5-7b-clear, qwen2-vl-7b-mllmu, qwen2-vl-7b-clear.
        method: Unlearning method.
        overrides: Settings to change, a JSON list such as ["unlearn.beta=0.3", "benchmark.forget_percent=10"].
        config: Settings to change, as YAML text of the preset's shape; overrides win over it.
        benchmark: Benchmark, a directory or an address (s3://…); empty: the preset's own.
        benchmark_digest: Digest of the manifest of a benchmark directory; a changed one makes the run start anew.
        forget: Ids of the people to be forgotten, a JSON list; empty: the benchmark's own forget split.
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
    with dsl.ExitHandler(light(finish(), cached=False)):
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
            settings=settings["benchmark"], source=benchmark, source_digest=benchmark_digest, code_digest=code_digest
        )
        questions = light(prepared).outputs["benchmark"]
        # What most steps read besides their own settings.
        common = {"benchmark": questions, "forget": forget, "code_digest": code_digest}

        vanilla_task = build_vanilla(settings=settings["vanilla"], benchmark=questions, code_digest=code_digest)
        vanilla = heavy(vanilla_task, machine).outputs["model"]
        retrained = heavy(build_retrained(settings=settings["vanilla"], **common), machine).outputs["model"]

        measured = collect_statistics(settings=settings["statistics"], model=vanilla, **common)
        statistics = heavy(measured, machine).outputs["statistics"]
        chosen = prune(settings=settings["prune"], statistics=statistics, code_digest=code_digest)
        pruning = light(chosen).outputs["pruning"]
        unlearn_task = unlearn(
            settings=settings["unlearn"],
            vanilla=vanilla,
            retrained=retrained,
            statistics=statistics,
            pruning=pruning,
            **common,
        )
        unlearned = heavy(unlearn_task, machine).outputs["model"]

        evaluations, attacks = {}, {}
        for name, models in {
            "vanilla": {"model": vanilla},
            "retrained": {"model": retrained},
            "unlearned": {"model": unlearned, "base": vanilla},
        }.items():
            evaluate_task = evaluate(name=name, settings=settings["evaluation"], **models, **common)
            evaluate_task.set_display_name(f"evaluate-{name}")
            evaluations[f"{name}_evaluation"] = heavy(evaluate_task, machine).outputs["evaluation"]
            attack_task = relearn_attack(name=name, settings=settings["relearn"], **models, **common)
            attack_task.set_display_name(f"relearn-{name}")
            attacks[f"{name}_relearning"] = heavy(attack_task, machine).outputs["relearning"]
        report_task = report(
            settings=settings["sections"],
            forget=forget,
            benchmark=questions,
            vanilla=vanilla,
            retrained=retrained,
            unlearned=unlearned,
            statistics=statistics,
            pruning=pruning,
            **evaluations,
            **attacks,
        )
        summary = light(report_task, cached=False).outputs["summary"]
        registration = register(preset=preset, vanilla=vanilla, unlearned=unlearned, summary=summary)
        light(registration, cached=False)
