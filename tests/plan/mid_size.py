"""Mid-size models with random weights on disk, and what the steps of a run on them take.

`python mid_size.py make NAME DIRECTORY` writes a base and a benchmark of two people into a directory that is there.
`plan` then prints what the run's steps are planned to take on this machine, and `take` what they took: step -> peak
resident bytes. Each component is called as KFP's executor does, in a process of its own.
"""

import json
import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import Pipe, get_context
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import AutoTokenizer, LlavaConfig, Qwen2VLConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from unsee.benchmark import embedded, schema
from unsee.memory import peak_resident
from unsee.mllm import checkpoint, embedded_qwen2_vl
from unsee.mllm.families import FAMILIES
from unsee.plan import plan
from unsee.sections import BenchmarkSettings
from unsee.settings import SHIPPED_BASE, load_settings
from unsee.storage import artifact

TOWER, LLM = 768, 1536
"""Widths."""
QUESTIONS = 3
"""About an image, or by a name: trained, and evaluated."""
SMALL = """
compute: {threads: 1}
statistics: {batch_images: 2}
prune: {layers: 2}
unlearn:
  {layers: 2, epochs: 1, least_steps: 2, versions: 1, batch_forget_images: 2, batch_retain_images: 2, batch_people: 2,
   micro_batch_images: 2}
evaluation: {batch_images: 2}
relearn: {percents: [50], samplings: [image], epochs: 2, batch_images: 1}
"""


@dataclass(frozen=True)
class Run:
    """Some steps in a row, the first on a base of a family. vocabulary: its tokens. dtype: its weights' on disk."""

    family: str
    preset: str
    assignments: tuple[str, ...]
    steps: tuple[str, ...]
    vocabulary: int = 24_000
    dtype: torch.dtype = torch.float32
    method: str = "vkd"

    def settings(self, directory):
        (directory / "small.yaml").write_text(SMALL)
        given = [*self.assignments, f"vanilla.base={directory / 'base'}"]
        benchmark = str(directory / "benchmark")
        return load_settings(
            self.preset, config=directory / "small.yaml", assignments=given, method=self.method, benchmark=benchmark
        )


BEFORE = ("build-vanilla", "collect-statistics", "prune", "unlearn")
RUNS = {
    "llava": Run(
        "llava",
        "embedded",
        ("vanilla.text_steps=0", "vanilla.steps=2", "vanilla.batch_images=2", "unlearn.blends=4"),
        (*BEFORE, "evaluate", "relearn-attack"),
    ),
    "llava-all-weights": Run(
        "llava", "embedded", (), ("collect-statistics", "prune", "unlearn"), vocabulary=16_000, method="ga_diff"
    ),
    "qwen2_vl-lora-checkpointing": Run(
        "qwen2_vl", "qwen2-vl-7b-mllmu", ("vanilla.epochs=1", "vanilla.batch_questions=6"),
        (*BEFORE, "evaluate", "relearn-attack"),
    ),
    "llava-bfloat16": Run(
        "llava", "embedded", ("compute.precision=bfloat16",), ("evaluate",), vocabulary=120_000, dtype=torch.bfloat16,
    ),
}  # fmt: skip


def llava(vocabulary):
    """196 image tokens."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_BASE)
    tower = {"hidden_size": TOWER, "intermediate_size": 4 * TOWER, "num_hidden_layers": 3, "num_attention_heads": 12}
    llm = {"hidden_size": LLM, "intermediate_size": 4 * LLM, "num_hidden_layers": 2, "num_attention_heads": 12}
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **tower, "image_size": 224, "patch_size": 16},
        text_config={"model_type": "llama", **llm, "vocab_size": vocabulary},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=196,
    )
    size = {"height": 224, "width": 224}
    return config, tokenizer, CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size=size)


def qwen2_vl(vocabulary):
    """100 image tokens of 400 patches."""
    tokenizer = embedded_qwen2_vl.make_tokenizer()
    tower = {"depth": 2, "embed_dim": TOWER, "hidden_size": LLM, "num_heads": 12}
    llm = {
        "hidden_size": LLM, "intermediate_size": 4 * LLM, "num_hidden_layers": 2, "num_attention_heads": 12,
        "num_key_value_heads": 4, "vocab_size": vocabulary, "bos_token_id": None,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24]},
    }  # fmt: skip
    special = {n: t for n, t in embedded_qwen2_vl.SPECIAL.items() if n != "turn_token"}
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in special.items()}
    config = Qwen2VLConfig(vision_config=tower, text_config=llm, **ids)
    return config, tokenizer, Qwen2VLImageProcessorPil(size={"shortest_edge": 280**2, "longest_edge": 280**2})


def make(run, directory):
    """Base and benchmark; the base also counts as a model that a step left."""
    torch.manual_seed(0)
    config, *processors = {"llava": llava, "qwen2_vl": qwen2_vl}[run.family](run.vocabulary)
    family = FAMILIES[run.family]
    with artifact.create(directory / "base", "model", {}):
        checkpoint.save_full(family(family.model_class(config), *processors), directory / "base", run.dtype)
    drawn = BenchmarkSettings(forget=1, retain=1, train_views=2, heldout_views=1, seed=1)
    whole, asked, kept = embedded.generate(drawn, directory / "people"), Counter(), []
    for question in whole.questions:
        row = question.image or question.entity_id, question.role
        asked[row] += 1
        shown_again = question.role == "eval" and question.view == "train"
        if question.split != "realworld" and asked[row] <= QUESTIONS and not shown_again:
            kept.append(question)
    with artifact.create(directory / "benchmark", "benchmark", {"name": "two people"}):
        (directory / "people" / "images").rename(directory / "benchmark" / "images")
        schema.write_questions(directory / "benchmark", kept)


def planned(run, directory):
    """As `unsee plan --here --json` prints it."""
    only = [step for step in run.steps if step != "prune"]
    return plan(run.settings(directory), directory / "benchmark", only=only, both_ways=False).facts()["steps"]


def component(step):
    name = step.replace("-", "_")
    return getattr(import_module(f"unsee_components.{name}.component"), name).python_func


def call(step, run, directory):
    """As KFP's executor does."""
    settings = run.settings(directory)
    sections = {
        "build-vanilla": settings.vanilla, "collect-statistics": settings.statistics, "prune": settings.prune,
        "unlearn": settings.unlearn, "evaluate": settings.evaluation, "relearn-attack": settings.relearn,
    }  # fmt: skip
    names = ["benchmark", "base", "vanilla", "statistics", "pruning", "unlearned", "evaluation", "relearning", "shown"]
    at = {name: SimpleNamespace(path=str(directory / name), log_metric=lambda *_: None) for name in names}
    vanilla = at["vanilla" if "build-vanilla" in run.steps else "base"]
    asked = {"benchmark": at["benchmark"], "forget": []}
    examined = {**asked, "name": "vanilla", "model": vanilla}
    if "unlearn" in run.steps:
        examined |= {"name": "unlearned", "model": at["unlearned"], "base": vanilla}
    collected = {"statistics": at["statistics"], "pruning": at["pruning"]}
    given = {
        "build-vanilla": {"benchmark": at["benchmark"], "model": vanilla},
        "collect-statistics": {**asked, "model": vanilla, "statistics": at["statistics"]},
        "prune": collected,
        "unlearn": {**asked, **collected, "vanilla": vanilla, "model": at["unlearned"]},
        "evaluate": {**examined, "evaluation": at["evaluation"]},
        "relearn-attack": {**examined, "relearning": at["relearning"]},
    }
    section = sections[step].model_dump_json()
    component(step)(settings=section, code_digest="", metrics=at["shown"], **given[step])


def taken(run, directory):
    """The peak of every step, each in a process that has imported what a step's has, and done nothing."""
    import_module("unsee.tracking.mlflow")
    for step in run.steps:
        component(step)
    found = {}
    for step in run.steps:
        ours, theirs = Pipe(duplex=False)
        process = get_context("fork").Process(target=measure, args=(step, run, directory, theirs))
        process.start()
        theirs.close()
        found[step] = ours.recv()
        process.join()
    return found


def measure(step, run, directory, end):
    call(step, run, directory)
    end.send(peak_resident())


def main(what, name, directory):
    with redirect_stdout(sys.stderr):
        found = {"make": make, "plan": planned, "take": taken}[what](RUNS[name], directory)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
