"""The workloads of the bench: the embedded model as shipped, LLaVA-1.5's token geometry at reduced widths, and a
mid-size model at full widths (`MIDSIZE`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from unsee.benchmark import embedded as embedded_benchmark
from unsee.benchmark.schema import Benchmark, ForgetRequest, Question, load
from unsee.evaluation.asking import Asked
from unsee.evaluation.examination import examination
from unsee.mllm import embedded as embedded_model
from unsee.mllm.families import Llava, Mllm
from unsee.mllm.rows import ImageBank
from unsee.settings import Settings, load_settings
from unsee.statistics.fisher import Fisher
from unsee.steps.unlearn import QUESTION_SETS
from unsee.storage.artifact import MANIFEST
from unsee.unlearning.method import Work

PRESET = "embedded"
SEED = 0
PRUNED = 0.05
FIRST_VIEW = "/00.png/"
# As in the paper: L_VKD on the retain batch, plain ascent. Without a bound: past it, an untrained model would have no
# gradient.
COMMON = (
    "unlearn.epochs=1",
    "unlearn.least_steps=1",
    "unlearn.versions=1",
    "unlearn.blends=0",
    "unlearn.bound=none",
    "unlearn.odds=null",
    "unlearn.decay=0",
    "unlearn.resist=null",
)


@dataclass(frozen=True)
class Workload:
    """A freshly initialised vanilla model, people to forget and to retain, and the settings of both implementations.

    asked: the questions with options that evaluation scores. pruned: bool [neurons] per tower layer. fisher: of every
    tunable tensor by question set. Both are drawn at random: what they are does not matter for the time it takes.
    """

    mllm: Mllm
    benchmark: Benchmark
    request: ForgetRequest
    settings: Settings
    pruned: Mapping[int, Tensor]
    fisher: Mapping[str, Fisher]
    asked: list[Asked]

    def work(self) -> Work:
        """The same as the product takes it."""
        return Work(
            settings=self.settings.unlearn,
            mllm=self.mllm,
            bank=ImageBank(self.mllm, self.benchmark),
            benchmark=self.benchmark,
            request=self.request,
            pruned=self.pruned,
            pruning=self.settings.prune,
            fisher=self.fisher,
        )


@dataclass(frozen=True)
class Recipe:
    """How to make a workload; every process that follows it gets the same one, so it can be pickled.

    assignments: changes to the embedded preset. wording: what is asked, from the embedded benchmark's question (None
    leaves it out). examined: which of the examination's questions are scored. batch_rows: rows per forward that the
    plain implementation tries.
    """

    make_mllm: Callable[[], Mllm]
    wording: Callable[[Question], Question | None]
    examined: Callable[[Asked], bool]
    assignments: tuple[str, ...]
    batch_rows: tuple[int, ...]
    repetitions: int

    def build(self, directory: Path, *assignments: str) -> Workload:
        """The workload of both implementations; its benchmark is drawn into `directory`, or read if it is there."""
        return self.with_settings(directory, self.settings(*COMMON, *assignments))

    def settings(self, *assignments: str, method: str = "vkd") -> Settings:
        """The embedded preset's for this method, changed as the workload needs it and by `assignments`."""
        return load_settings(PRESET, assignments=[*self.assignments, *assignments], method=method, seed=SEED)

    def with_settings(self, directory: Path, settings: Settings) -> Workload:
        """The workload of any method; its benchmark is drawn into `directory`, or read if it is there."""
        drawn = (directory / MANIFEST).exists()
        benchmark = load(directory) if drawn else embedded_benchmark.generate(settings.generated, directory)
        people = [question for question in benchmark.questions if question.split != "realworld"]
        asked = tuple(worded for question in people if (worded := self.wording(question)) is not None)
        benchmark = replace(benchmark, questions=asked)
        mllm = self.make_mllm()
        mllm.model.eval()
        generator = torch.Generator().manual_seed(SEED)
        pruned = {m.layer: torch.rand(m.outgoing.in_features, generator=generator) < PRUNED for m in mllm.tower_mlps()}
        full = settings.unlearn.scope == "full"
        tunable = dict(mllm.model.named_parameters()) if full else mllm.visual_parameters(settings.unlearn.layers)
        fisher = {
            name: {n: torch.rand(p.shape, generator=generator) for n, p in tunable.items()} for name in QUESTION_SETS
        }
        request = ForgetRequest.resolve(benchmark, [])
        scored = [a for a in examination(benchmark, request) if a.question.options and self.examined(a)]
        return Workload(mllm, benchmark, request, settings, pruned, fisher, scored)


def as_it_is(question: Question) -> Question:
    """The embedded benchmark's own questions: 16 short ones per training portrait."""
    return question


def nine_longer_questions(question: Question) -> Question | None:
    """The nine direct questions about each person's first portrait, prompt and answer about 50 tokens long."""
    if "/direct/" not in question.question_id or (question.view == "train" and FIRST_VIEW not in question.question_id):
        return None
    prompt = f"{question.prompt} Describe it in one sentence and do not say more than that. {question.prompt}"
    return replace(question, prompt=prompt)


def make_llava_geometry() -> Llava:
    """LLaVA-1.5's 336 px, patch 14 and 576 image tokens; tower 4 x 128, Llama 6 x 512."""
    torch.manual_seed(SEED)
    tokenizer = embedded_model.make_tokenizer()
    tower = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=336,
        patch_size=14,
        projection_dim=128,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=576,
        vision_feature_layer=-1,  # the reduced tower has no layer to spare
        tie_word_embeddings=False,
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    return Llava(LlavaForConditionalGeneration(config), tokenizer, processor)


def make_midsize(llm_layers: int = 30) -> Llava:
    """157 million parameters: an LLM of SmolLM2-135M's shape and a tower as deep and as finely patched as CLIP's
    ViT-B/16 at half its width (that of ViT-S/16), 196 image tokens at 224 px. Only the tokenizer is the embedded one.
    """
    torch.manual_seed(SEED)
    tokenizer = embedded_model.make_tokenizer()
    tower = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=224,
        patch_size=16,
        projection_dim=384,
    )
    text = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=llm_layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=196,
        tie_word_embeddings=True,
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    return Llava(LlavaForConditionalGeneration(config), tokenizer, processor)


def everything(asked: Asked) -> bool:
    """The whole examination."""
    return True


def unseen_portraits_of_forgotten_people(asked: Asked) -> bool:
    """What is asked about the forget people's held-out portraits."""
    return asked.modality == "vqa" and (asked.question.view, asked.question.split) == ("heldout", "forget")


RECIPES = {
    "embedded": Recipe(
        partial(embedded_model.make, SEED),
        as_it_is,
        everything,
        ("benchmark.forget=3", "benchmark.retain=6"),
        batch_rows=(8, 32, 96),
        repetitions=5,
    ),
    "llava": Recipe(
        make_llava_geometry,
        nine_longer_questions,
        unseen_portraits_of_forgotten_people,
        (
            "benchmark.forget=1",
            "benchmark.retain=2",
            "benchmark.train_views=2",
            "benchmark.heldout_views=1",
            "unlearn.layers=2",
            "unlearn.batch_forget_images=1",
            "unlearn.batch_retain_images=2",
            "unlearn.batch_people=1",
            "unlearn.micro_batch_images=1",
        ),
        batch_rows=(1, 3, 9),
        repetitions=3,
    ),
}
"""What `unsee bench` measures."""

MIDSIZE = Recipe(
    make_midsize,
    nine_longer_questions,
    everything,
    (
        "vanilla.base=random weights",
        "benchmark.forget=1",
        "benchmark.retain=1",
        "benchmark.train_views=2",
        "benchmark.heldout_views=2",
        "statistics.batch_images=1",
        "prune.layers=6",
        "unlearn.layers=6",
        "unlearn.batch_forget_images=1",
        "unlearn.batch_retain_images=1",
        "unlearn.batch_people=1",
        "unlearn.micro_batch_images=1",
        "evaluation.batch_images=4",
    ),
    batch_rows=(3,),
    repetitions=1,
)
"""What `unsee utilisation` measures: an epoch is a step, of a forget and a retain portrait with nine questions each."""
