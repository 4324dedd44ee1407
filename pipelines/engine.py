"""A DAG as KFP's local engine has to be given it, and whose names it prints."""

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec


def step_names(spec: PipelineSpec) -> dict[str, str]:
    """Task name -> the step's name for people, for every task of the DAG that is a container."""
    dags = [spec.root.dag, *(component.dag for component in spec.components.values())]
    tasks = {name: task for dag in dags for name, task in dag.tasks.items()}
    return {
        name: task.task_info.name
        for name, task in tasks.items()
        if not spec.components[task.component_ref.name].HasField("dag")
    }


def for_local_engine(spec: PipelineSpec) -> PipelineSpec:
    """A copy without retries: on one machine, nothing that makes a step fail passes by waiting for it.

    KFP's local engine takes every input of a loop whose name ends in -loop-item for the loop's own item, that of a
    loop around it too: items get names of another kind. And in conditions it finds a step's output only by a name that
    tells step and output apart.
    """
    renamed = json_format.MessageToJson(spec).replace("-loop-item", "-item")
    copy = json_format.Parse(renamed, PipelineSpec())
    for dag in (copy.root.dag, *(component.dag for component in copy.components.values())):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")
            for name, parameter in task.inputs.parameters.items():
                if made := parameter.task_output_parameter.producer_task:
                    found = f"pipelinechannel--{made}--{parameter.task_output_parameter.output_parameter_key}"
                    policy = task.trigger_policy
                    policy.condition = policy.condition.replace(f"['{name}']", f"['{found}']")
    return copy
