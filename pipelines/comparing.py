"""The steps of a comparison: for every seed vanilla and retrained once, then every method on the same artifacts."""

from typing import Any

from kfp import dsl

from unsee_components.build_retrained.component import build_retrained
from unsee_components.build_vanilla.component import build_vanilla
from unsee_components.collect_statistics.component import collect_statistics
from unsee_components.compare_methods.component import compare_methods
from unsee_components.compare_report.component import compare_report
from unsee_components.evaluate.component import evaluate
from unsee_components.prepare_benchmark.component import prepare_benchmark
from unsee_components.prune.component import prune
from unsee_components.relearn_attack.component import relearn_attack
from unsee_components.resolve_settings.component import resolve_settings
from unsee_components.unlearn.component import unlearn
from unsee_pipelines.tasks import Machine, heavy, light


def compared(
    methods: Any,
    seeds: Any,
    report: str,
    machine: Machine,
    *,
    benchmark: str,
    benchmark_digest: str,
    forget: list[str],
    code_digest: str,
    **settings_given: Any,
) -> None:
    """Add the steps to a DAG that has these parameters, and preset, overrides and config.

    Args:
        methods: a list, or the output of a step that is one. seeds: a list.
        report: What the page shows (`unsee.comparison.reports.PAGES`).
    """
    shared = {**settings_given, "given_benchmark": benchmark, "code_digest": code_digest}
    # One training at a time: on one machine they would slow each other, `unsee pipeline compile` can raise both.
    with dsl.ParallelFor(seeds, parallelism=1) as seed:
        settings = light(resolve_settings(method="", methods=methods, seed=seed, **shared)).outputs
        stamp = {"code_digest": code_digest, "label": settings["of_seed"]}
        prepared = prepare_benchmark(
            settings=settings["benchmark"], source=benchmark, source_digest=benchmark_digest, **stamp
        )
        questions = light(prepared).outputs["benchmark"]
        common = {"benchmark": questions, "forget": forget, **stamp}
        vanilla_task = build_vanilla(settings=settings["vanilla"], benchmark=questions, **stamp)
        vanilla = heavy(vanilla_task, machine).outputs["model"]
        retrained = heavy(build_retrained(settings=settings["vanilla"], **common), machine).outputs["model"]
        measured = collect_statistics(settings=settings["statistics"], model=vanilla, **common)
        statistics = heavy(measured, machine).outputs["statistics"]

        references = {}
        for name, model in {"vanilla": vanilla, "retrained": retrained}.items():
            evaluated = evaluate(name=name, settings=settings["evaluation"], model=model, **common)
            evaluated.set_display_name(f"evaluate-{name}")
            references[f"{name}_evaluation"] = heavy(evaluated, machine).outputs["evaluation"]
            attacked = relearn_attack(name=name, settings=settings["relearn"], model=model, **common)
            attacked.set_display_name(f"relearn-{name}")
            references[f"{name}_relearning"] = heavy(attacked, machine).outputs["relearning"]

        with dsl.ParallelFor(methods, parallelism=1) as method:
            resolved = resolve_settings(method=method, seed=seed, **shared).set_display_name("resolve-method")
            own = light(resolved).outputs
            stamp |= {"label": own["of_method"]}
            chosen = prune(settings=own["prune"], statistics=statistics, **stamp)
            unlearned = unlearn(
                settings=own["unlearn"],
                vanilla=vanilla,
                retrained=retrained,
                statistics=statistics,
                pruning=light(chosen).outputs["pruning"],
                **{**common, **stamp},
            )
            delta = {"model": heavy(unlearned, machine).outputs["model"], "base": vanilla}
            # The local engine would take settings["of_seed"], made outside of the loop, for the loop's item.
            common |= {"label": own["of_seed"]}
            scored = evaluate(name=method, settings=own["evaluation"], **delta, **common)
            heavy(scored.set_display_name("evaluate-method"), machine)
            relearnt = relearn_attack(name=method, settings=own["relearn"], **delta, **common)
            heavy(relearnt.set_display_name("relearn-method"), machine)
        of_seed = compare_methods(
            seed=seed,
            models=dsl.Collected(unlearned.outputs["model"]),
            evaluations=dsl.Collected(scored.outputs["evaluation"]),
            relearnings=dsl.Collected(relearnt.outputs["relearning"]),
            code_digest=code_digest,
            **references,
        )
        light(of_seed)
    gathered = dsl.Collected(of_seed.outputs["comparison"])
    reported = compare_report(seeds=gathered, report=report, methods=methods, **settings_given)
    light(reported, cached=False)
