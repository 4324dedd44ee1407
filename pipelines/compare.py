"""The comparison DAG: for every seed vanilla and retrained once, then every method on the same artifacts."""

from kfp import dsl

from unsee_components.build_retrained.component import build_retrained
from unsee_components.build_vanilla.component import build_vanilla
from unsee_components.collect_statistics.component import collect_statistics
from unsee_components.compare_methods.component import compare_methods
from unsee_components.compare_report.component import compare_report
from unsee_components.evaluate.component import evaluate
from unsee_components.finish.component import finish
from unsee_components.prepare_benchmark.component import prepare_benchmark
from unsee_components.prune.component import prune
from unsee_components.relearn_attack.component import relearn_attack
from unsee_components.resolve_settings.component import resolve_settings
from unsee_components.unlearn.component import unlearn
from unsee_pipelines.tasks import heavy, light


@dsl.pipeline(name="unsee-compare")
def comparison(
    preset: str = "embedded",
    methods: list[str] = ["vkd", "ga_diff", "npo_retain"],  # noqa: B006 (KFP takes defaults as they are)
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    overrides: list[str] = [],  # noqa: B006
    config: str = "",
    benchmark: str = "",
    benchmark_digest: str = "",
    forget: list[str] = [],  # noqa: B006
    report: str = "compare",
    code_digest: str = "",
):
    """Unlearn by several methods over several seeds, and tell how close each comes to the model that never knew.

    Args:
        preset: Name of the settings to start from: embedded, or a model and a published benchmark, llava-1.5-7b-mllmu,
            llava-1.5-7b-clear, qwen2-vl-7b-mllmu, qwen2-vl-7b-clear.
        methods: Methods, a JSON list; each may be followed by its own settings, as in "vkd unlearn.beta=0.3".
        seeds: Seeds, a JSON list; each has its own vanilla and retrained model.
        overrides: Settings to change for all methods, a JSON list such as ["relearn.percents=[20]"].
        config: Settings to change, as YAML text of the preset's shape; overrides win over it.
        benchmark: Benchmark directory; empty: the preset's own, of each seed.
        benchmark_digest: Digest of that directory's manifest; a changed one makes the run start anew.
        forget: Ids of the people to be forgotten, a JSON list; empty: the benchmark's own forget split.
        report: What the page shows: compare; or, for candidates, sweep, frontier or search.
        code_digest: Identity of code and library versions where the image does not give it (local runs).
    """
    with dsl.ExitHandler(light(finish(), cached=False)):
        shared = {
            "preset": preset,
            "overrides": overrides,
            "config": config,
            "given_benchmark": benchmark,
            "code_digest": code_digest,
        }
        # One training at a time: on one machine they would slow each other, on a cluster raise both numbers.
        with dsl.ParallelFor(seeds, parallelism=1) as seed:
            settings = light(resolve_settings(method="", methods=methods, seed=seed, **shared)).outputs
            stamp = {"code_digest": code_digest, "label": settings["of_seed"]}
            prepared = prepare_benchmark(
                settings=settings["benchmark"], source=benchmark, source_digest=benchmark_digest, **stamp
            )
            questions = light(prepared).outputs["benchmark"]
            common = {"benchmark": questions, "forget": forget, **stamp}
            vanilla_task = build_vanilla(settings=settings["vanilla"], benchmark=questions, **stamp)
            vanilla = heavy(vanilla_task).outputs["model"]
            retrained = heavy(build_retrained(settings=settings["vanilla"], **common)).outputs["model"]
            measured = collect_statistics(settings=settings["statistics"], model=vanilla, **common)
            statistics = heavy(measured).outputs["statistics"]

            references = {}
            for name, model in {"vanilla": vanilla, "retrained": retrained}.items():
                evaluated = evaluate(name=name, settings=settings["evaluation"], model=model, **common)
                evaluated.set_display_name(f"evaluate-{name}")
                references[f"{name}_evaluation"] = heavy(evaluated).outputs["evaluation"]
                attacked = relearn_attack(name=name, settings=settings["relearn"], model=model, **common)
                attacked.set_display_name(f"relearn-{name}")
                references[f"{name}_relearning"] = heavy(attacked).outputs["relearning"]

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
                delta = {"model": heavy(unlearned).outputs["model"], "base": vanilla}
                # The local engine would take settings["of_seed"], made outside of the loop, for the loop's item.
                common |= {"label": own["of_seed"]}
                scored = evaluate(name=method, settings=own["evaluation"], **delta, **common)
                heavy(scored.set_display_name("evaluate-method"))
                relearnt = relearn_attack(name=method, settings=own["relearn"], **delta, **common)
                heavy(relearnt.set_display_name("relearn-method"))
            of_seed = compare_methods(
                seed=seed,
                models=dsl.Collected(unlearned.outputs["model"]),
                evaluations=dsl.Collected(scored.outputs["evaluation"]),
                relearnings=dsl.Collected(relearnt.outputs["relearning"]),
                code_digest=code_digest,
                **references,
            )
            light(of_seed)
        reported = compare_report(seeds=dsl.Collected(of_seed.outputs["comparison"]), report=report)
        light(reported, cached=False)
