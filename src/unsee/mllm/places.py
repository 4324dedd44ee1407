"""Where the weights of a model are, in words: what reports group them by."""

from unsee.mllm.families import Mllm


def places(mllm: Mllm) -> dict[str, str]:
    """Every parameter by full name -> "Tower layer 3", "Projector", "LLM layer 0" and so on, in the order shown.

    A parameter that two places share is in the first of them.
    """
    modules = {
        **{f"Tower layer {index}": layer for index, layer in enumerate(mllm.tower_layers)},
        "Projector": mllm.projector,
        **{f"LLM layer {index}": layer for index, layer in enumerate(mllm.language_model.layers)},
        "LLM outside its layers": mllm.language_model,
        "Output layer": mllm.head,
        "Tower outside its layers": mllm.model,
    }
    names = {id(parameter): name for name, parameter in mllm.model.named_parameters()}
    found: dict[str, str] = {}
    for place, module in modules.items():
        for parameter in module.parameters():
            found.setdefault(names[id(parameter)], place)
    return found
