"""The sweep DAG: a comparison of one method with itself, at several values of one setting.

It is for clusters. KFP's local engine takes a step's output, brought into a loop, for the loop's item, so `unsee sweep`
names the candidates before it runs the comparison DAG.
"""

from kfp import dsl

from unsee_components.finish.component import finish
from unsee_components.sweep_candidates.component import sweep_candidates
from unsee_pipelines.comparing import compared
from unsee_pipelines.tasks import Machine, light


@dsl.pipeline(name="unsee-sweep")
def sweep(
    preset: str = "embedded",
    method: str = "vkd",
    parameter: str = "unlearn.beta=0,0.3,1,3,14",
    seeds: list[int] = [0, 1, 2],  # noqa: B006 (KFP takes defaults as they are)
    overrides: list[str] = ["relearn.percents=[20]"],  # noqa: B006
    config: str = "",
    benchmark: str = "",
    benchmark_digest: str = "",
    forget: list[str] = [],  # noqa: B006
    code_digest: str = "",
    cpu: str = "2",
    memory: str = "4G",
    gpus: str = "0",
    accelerator: str = "nvidia.com/gpu",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
):
    """Unlearn at several values of one setting, over several seeds (the paper's Figures 2 and 3).

    Args:
        preset: Name of the settings to start from: embedded, or a model and a published benchmark, llava-1.5-7b-mllmu,
            llava-1.5-7b-clear, qwen2-vl-7b-mllmu, qwen2-vl-7b-clear.
        method: Unlearning method, which settings of its own may follow, as in "vkd unlearn.bound=7".
        parameter: A setting of `prune` or `unlearn`, and its values.
        seeds: Seeds, a JSON list; each has its own vanilla and retrained model.
        overrides: Settings to change throughout, a JSON list.
        config: Settings to change, as YAML text of the preset's shape; overrides win over it.
        benchmark: Benchmark, a directory or an address (s3://…); empty: the preset's own, of each seed.
        benchmark_digest: Digest of the manifest of a benchmark directory; a changed one makes the run start anew.
        forget: Ids of the people to be forgotten, a JSON list; empty: the benchmark's own forget split.
        code_digest: Identity of code and library versions where the image does not give it (local runs).
        cpu: Cores of each step that holds a model.
        memory: Memory of each step that holds a model.
        gpus: GPUs of each step that holds a model, a whole number.
        accelerator: What the cluster calls its GPUs.
        node_selector: Labels of the nodes such steps run on, JSON such as {"pool": "gpu"}; empty: any.
        tolerations: Taints of nodes such steps may run on all the same, a JSON list as in a pod.
    """
    with dsl.ExitHandler(light(finish(), cached=False)):
        candidates = sweep_candidates(method=method, parameter=parameter, code_digest=code_digest)
        compared(
            light(candidates).outputs["methods"],
            seeds,
            "sweep",
            Machine(cpu, memory, gpus, accelerator, node_selector, tolerations),
            preset=preset,
            overrides=overrides,
            config=config,
            benchmark=benchmark,
            benchmark_digest=benchmark_digest,
            forget=forget,
            code_digest=code_digest,
        )
