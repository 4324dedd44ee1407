"""The comparison DAG: several methods over several seeds."""

from kfp import dsl

from unsee_components.finish.component import finish
from unsee_pipelines.comparing import compared
from unsee_pipelines.tasks import Machine, light


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
    cpu: str = "2",
    memory: str = "4G",
    gpus: str = "0",
    accelerator: str = "nvidia.com/gpu",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
):
    """Unlearn by several methods over several seeds, and tell how close each comes to the model that never knew.

    Args:
        preset: Name of the settings to start from: embedded, or a model and a published benchmark, llava-1.5-7b-mllmu,
            llava-1.5-7b-clear, qwen2-vl-7b-mllmu, qwen2-vl-7b-clear.
        methods: Methods, a JSON list; each may be followed by its own settings, as in "vkd unlearn.beta=0.3".
        seeds: Seeds, a JSON list; each has its own vanilla and retrained model.
        overrides: Settings to change for all methods, a JSON list such as ["relearn.percents=[20]"].
        config: Settings to change, as YAML text of the preset's shape; overrides win over it.
        benchmark: Benchmark, a directory or an address (s3://…); empty: the preset's own, of each seed.
        benchmark_digest: Digest of the manifest of a benchmark directory; a changed one makes the run start anew.
        forget: Ids of the people to be forgotten, a JSON list; empty: the benchmark's own forget split.
        report: What the page shows: compare; or, for candidates, sweep, frontier or search.
        code_digest: Identity of code and library versions where the image does not give it (local runs).
        cpu: Cores of each step that holds a model.
        memory: Memory of each step that holds a model.
        gpus: GPUs of each step that holds a model, a whole number.
        accelerator: What the cluster calls its GPUs.
        node_selector: Labels of the nodes such steps run on, JSON such as {"pool": "gpu"}; empty: any.
        tolerations: Taints of nodes such steps may run on all the same, a JSON list as in a pod.
    """
    with dsl.ExitHandler(light(finish(), cached=False)):
        compared(
            methods,
            seeds,
            report,
            Machine(cpu, memory, gpus, accelerator, node_selector, tolerations),
            preset=preset,
            overrides=overrides,
            config=config,
            benchmark=benchmark,
            benchmark_digest=benchmark_digest,
            forget=forget,
            code_digest=code_digest,
        )
