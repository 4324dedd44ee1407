"""Models on disk: full Hugging Face folders, and deltas that hold only the tensors that differ from a base.

Safetensors only; a delta names its base by sha256 and is never applied to another.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.initialization import no_init_weights
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils import logging as transformers_logging

from unsee.compute import PLAIN, Compute
from unsee.errors import UserError
from unsee.mllm.families import FAMILIES, Mllm
from unsee.mllm.quantised import quantise
from unsee.mllm.stored import changed, copy_into, opened, same_bits, weights
from unsee.storage.artifact import digest_of, file_digest, write_json

transformers_logging.disable_progress_bar()

DELTA = "delta.safetensors"
DELTA_FACTS = "delta.json"


def weights_digest(directory: Path) -> str:
    """sha256 over the safetensors files of a full model folder."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise UserError(f"{directory} holds no *.safetensors; give a Hugging Face folder saved with safetensors")
    return digest_of({file.name: file_digest(file) for file in files})


def is_delta(directory: Path) -> bool:
    """Whether a model directory holds a delta on another model."""
    return (directory / DELTA_FACTS).exists()


def save_full(mllm: Mllm, directory: Path, dtype: torch.dtype | None = None) -> None:
    """Write a Hugging Face folder that plain transformers loads, weights cast to `dtype` if given."""
    weights = {name: tensor.to(dtype or tensor.dtype) for name, tensor in mllm.model.state_dict().items()}
    mllm.model.save_pretrained(directory, state_dict=weights)
    mllm.save_processor(directory)


def load_full(directory: Path, compute: Compute = PLAIN) -> Mllm:
    """A model from a Hugging Face folder of a known family, without running anyone's code.

    Raises:
        UserError: no config, an unknown architecture, or damaged weights.
    """
    config, tokenizer, image_processor = parts(directory)
    family = FAMILIES[config.model_type]
    with _told(f"{directory}: the weights"):
        model = _model(family, config, directory, compute)
    return family(model.eval(), tokenizer, image_processor, compute)


def parts(directory: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase, BaseImageProcessor]:
    """Configuration, tokenizer and image processor of a model folder, whose weights need not be there.

    Raises:
        UserError: no config, or an unknown architecture.
    """
    if not (directory / "config.json").exists():
        raise UserError(f"{directory} holds no config.json; give a Hugging Face model folder")
    with _told(f"{directory}: config.json"):
        stated, _ = PreTrainedConfig.get_config_dict(directory)
        family = _family(directory, stated.get("model_type", ""))
        config = family.model_class.config_class.from_pretrained(directory)
    with _told(f"{directory}: tokenizer or image processor"):
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        image_processor = family.image_processor_class.from_pretrained(directory)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _chat_template(directory, family)
    return config, tokenizer, image_processor


def _family(directory: Path, model_type: str) -> type[Mllm]:
    if model_type not in FAMILIES:
        raise UserError(
            f"{directory}/config.json: model_type {model_type!r} is not supported: no family says where its tower, "
            "projector, LLM and MLP neurons are, how the tokens of an image enter a prompt, which positions they have, "
            "and what its chat template and image processing are; describe it by a file in src/unsee/mllm/families, as "
            f"docs/families.md shows, or use one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]


def without_weights(family: type[Mllm], config: PreTrainedConfig, compute: Compute) -> PreTrainedModel:
    """A model that still has to get its weights, on the CPU, where memory that nobody writes to is not taken."""
    with no_init_weights():
        model = family.model_class._from_config(config, dtype=compute.dtype)
    if compute.llm_bits:
        quantise(model.get_submodule(family.language_name), compute.llm_bits)
    return model


def _model(family: type[Mllm], config: PreTrainedConfig, directory: Path, compute: Compute) -> PreTrainedModel:
    """Tensors are read one by one, and go where and in what dtype the model computes: nothing is in memory twice."""
    if compute.llm_bits:
        model = without_weights(family, config, compute).to(compute.device)
        model.tie_weights()
        copy_into(model, weights(directory, model))
    else:
        stored: Any = opened(directory)
        model = family.model_class.from_pretrained(
            None, config=config, state_dict=stored, dtype=compute.dtype, device_map={"": compute.device}
        )
    if (directory / GENERATION_CONFIG_NAME).exists():
        model.generation_config = GenerationConfig.from_pretrained(directory)
    return model


def _chat_template(directory: Path, family: type[Mllm]) -> str:
    """The template where older models keep it, else the family's."""
    kept = directory / "chat_template.json"
    if kept.exists():
        return json.loads(kept.read_text())["chat_template"]
    if family.chat_template is None:
        raise UserError(
            f"{directory} holds no chat template, in tokenizer_config.json, chat_template.jinja or chat_template.json; "
            "add its publisher's"
        )
    return family.chat_template


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What transformers cannot read, in one sentence."""
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{what} cannot be read ({reason}); fetch or build the model again") from None


def changed_tensors(model: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors of `model` that differ from `base` in any bit; tied ones no longer share memory."""
    changed = {name: tensor for name, tensor in model.items() if not same_bits(tensor, base[name])}
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in changed.items()}


def save_delta(mllm: Mllm, base: Path, directory: Path, *, method: str, seed: int, config: Mapping[str, Any]) -> int:
    """Write what differs from the full model in `base`; returns how many tensors do."""
    differing = changed(mllm.model, base)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(differing, directory / DELTA)
    facts = {
        "base": {"uri": str(base), "sha256": weights_digest(base)},
        "parent": weights_digest(base),
        "changed": sorted(differing),
        "dtype": ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in differing.values()})),
        "method": method,
        "seed": seed,
        "config": dict(config),
    }
    write_json(directory / DELTA_FACTS, facts)
    return len(differing)


def load(directory: Path, base: Path | None = None, compute: Compute = PLAIN) -> Mllm:
    """A full model, or a delta applied to its base. `base` says where the base lies now, if not where it lay then.

    Raises:
        UserError: the base is missing or another one, or the delta is damaged.
    """
    if not is_delta(directory):
        return load_full(directory, compute)
    facts = json.loads((directory / DELTA_FACTS).read_text())
    found = base or Path(facts["base"]["uri"])
    if not found.exists():
        raise UserError(f"{directory} is a delta on {found}, which is not there; say where its base is with --base")
    if weights_digest(found) != facts["base"]["sha256"]:
        raise UserError(f"{directory} is a delta on another model than {found} (sha256 differs); give its own base")
    mllm = load_full(found, compute)
    try:
        with safe_open(directory / DELTA, framework="pt", backend="pread") as delta:
            if sorted(delta.keys()) != facts["changed"]:
                raise UserError(
                    f"{directory / DELTA} does not hold the tensors {DELTA_FACTS} lists; run the unlearn step again"
                )
            copy_into(mllm.model, ((name, delta.get_tensor(name)) for name in facts["changed"]))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{directory / DELTA} is damaged ({error}); run the unlearn step again") from None
    return mllm
