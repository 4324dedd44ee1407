"""The sections of a run's settings, one frozen group for each step; `unsee.settings` reads them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

Sharding = Literal["none", "llm"]
Bits = Literal[8, 4]
Part = Literal["tower", "projector", "llm"]
Seed = Annotated[int, Field(ge=0)]
Shape = Literal["mllmu", "clear"]
"""The benchmark whose questions a benchmark has: MLLMU-Bench's (facts), or CLEAR's (captions and names)."""
OPTIONS = 4
"""How many answers, the right one among them, a generated question has to choose from."""
FORGET_PERCENTS: Mapping[Shape, tuple[int, ...]] = {"mllmu": (5, 10, 15), "clear": (1, 5, 10)}
"""The forget sets that the published benchmarks have, in percent of their people."""


class Section(BaseModel):
    """A frozen group of settings; unknown names are errors, and so are NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ComputeSettings(Section):
    """How a step computes (`unsee.compute`). Without more said: on the CPU, in float32.

    device, precision: auto goes by what the hardware has: CUDA, and bfloat16 where it is fast. precision: of frozen
    weights, and of forward and backward; weights that are trained stay float32. checkpointing: activations inside
    layers are computed a second time rather than kept. llm_bits: of each weight of the LLM's linear layers, in steps
    that do not train it; null leaves them as precise as the rest.
    """

    threads: PositiveInt
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    llm_bits: Bits | None = None


def _whole(compute: ComputeSettings) -> ComputeSettings:
    if compute.llm_bits:
        raise ValueError(
            f"llm_bits = {compute.llm_bits} is for steps that do not train the LLM, and this one does; leave it null "
            "here and set it for others, e.g. unlearn.compute.llm_bits"
        )
    return compute


WholeCompute = Annotated[ComputeSettings, AfterValidator(_whole)]
"""Of steps that train the LLM."""


class BenchmarkSettings(Section):
    """What the embedded generator draws. shape: what is asked, facts or captions and names."""

    shape: Shape = "mllmu"
    forget: PositiveInt
    retain: PositiveInt
    train_views: int = Field(ge=2)
    heldout_views: PositiveInt
    seed: Seed

    @model_validator(mode="after")
    def _enough_names(self) -> "BenchmarkSettings":
        if self.shape == "clear" and min(self.forget, self.retain) < OPTIONS:
            raise ValueError(f"names to choose from are those of the same set; give at least {OPTIONS} people to each")
        return self


class ImportSettings(Section):
    """A published benchmark. layout: which one. source: its id on the Hugging Face hub, or a directory with a folder
    for each of its configurations. forget_percent: which of its forget sets. seed: of the order of options and of what
    is held out."""

    layout: Shape
    source: str
    forget_percent: PositiveInt
    seed: Seed

    @model_validator(mode="after")
    def _has_forget_set(self) -> "ImportSettings":
        if self.forget_percent not in (percents := FORGET_PERCENTS[self.layout]):
            known = ", ".join(map(str, percents))
            raise ValueError(f"{self.layout} has no forget set of {self.forget_percent} %; choose one of {known}")
        return self


class TrainingSettings(Section):
    """sharding: whether each of several processes keeps all of the model, or a share of the LLM's layers."""

    sharding: Sharding = "none"


class BaseSettings(TrainingSettings):
    """What is trained into vanilla, and into the retrained reference: a directory, or an id on the Hugging Face hub."""

    base: str
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    compute: WholeCompute
    seed: Seed


class FinetuneSettings(BaseSettings):
    """Fine-tuning every parameter, `text_steps` on questions by name, then `steps` with photographs too."""

    text_steps: int = Field(ge=0)
    steps: PositiveInt
    batch_images: PositiveInt
    questions_per_image: PositiveInt


class LoraSettings(BaseSettings):
    """Fine-tuning low-rank additions to the LLM, question by question, as the published benchmarks do.

    epochs: over all training questions, in the first `warmup_epochs` of which the learning rate rises; it then falls
    to zero. micro_batch_questions: how many go through the model at once, which changes memory and, but for what is
    drawn for dropout, not the result. by_name: train the questions without a photograph too.
    """

    rank: PositiveInt
    alpha: PositiveFloat
    dropout: float = Field(ge=0, lt=1)
    epochs: PositiveInt
    warmup_epochs: int = Field(ge=0)
    batch_questions: PositiveInt
    micro_batch_questions: PositiveInt
    by_name: bool

    @model_validator(mode="after")
    def _warms_up_before_the_end(self) -> "LoraSettings":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs} leaves none of {self.epochs} epochs; give fewer")
        return self


def _which(section: type[Section], mark: str, tags: tuple[str, str]) -> Discriminator:
    """Tells a section from another by a setting that only it has: the first tag if it is this one."""

    def chosen(given: Any) -> str:
        return tags[not (mark in given if isinstance(given, dict) else isinstance(given, section))]

    return Discriminator(chosen)


TAGS = ("import", "generate", "lora", "full")
"""What pydantic says of a section beside its name where there are two."""
AnyBenchmark = Annotated[
    Annotated[ImportSettings, Tag("import")] | Annotated[BenchmarkSettings, Tag("generate")],
    _which(ImportSettings, "layout", ("import", "generate")),
]
AnyFinetuning = Annotated[
    Annotated[LoraSettings, Tag("lora")] | Annotated[FinetuneSettings, Tag("full")],
    _which(LoraSettings, "rank", ("lora", "full")),
]
BENCHMARK: TypeAdapter[AnyBenchmark] = TypeAdapter(AnyBenchmark)
FINETUNING: TypeAdapter[AnyFinetuning] = TypeAdapter(AnyFinetuning)


class StatisticsSettings(Section):
    """Neuron importance (Eq. 6-7) and Fisher information (Eq. 9-10)."""

    fisher_unit: Literal["image", "question"]
    batch_images: PositiveInt
    compute: ComputeSettings


class ThresholdSettings(Section):
    """A threshold given as a value, or as the fraction of entries that reach it (a quantile)."""

    value: float | None = None
    fraction: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _one_of(self) -> "ThresholdSettings":
        if (self.value is None) == (self.fraction is None):
            raise ValueError("give exactly one of value and fraction")
        return self


class PruneSettings(Section):
    """Eq. 8: neurons whose importance ratio reaches `threshold` (d_I) are removed from the deepest `layers` layers."""

    threshold: ThresholdSettings
    layers: PositiveInt | None


Scope = Literal["vision", "full"]


class ResistSettings(Section):
    """Against relearning: how far every weight is moved towards remembering before a forgetting gradient is taken, and
    from which share of the steps on (a model that still knows everything has no gradient there)."""

    step: float = Field(gt=0)
    after: float = Field(ge=0, lt=1)


class UnlearnSettings(TrainingSettings):
    """What every unlearning method has; a method adds its own (`unsee.unlearning.method`).

    scope: what is trained: tower MLPs of the deepest `layers` layers that feed the projector (None: of all) and the
    projector, or everything. least_steps: with few portraits to forget, epochs are repeated up to so many steps.
    versions: of each portrait, as it is and augmented, an epoch each in turn. batch_people: people by name per step.
    micro_batch_images: how many images go through the model at once, which changes speed and memory, not the result.
    decay: the last share of the steps, over which the learning rate falls to zero. resist: relearning (None: do not).
    mask_on: whether a saliency mask restrains the forgetting gradient alone (Eq. 5) or the whole update. clip: largest
    norm of the forgetting and of the preserving gradient, each on its own.
    """

    method: str
    scope: Scope = "full"
    layers: PositiveInt | None
    epochs: PositiveInt
    least_steps: int = Field(ge=0)
    versions: PositiveInt
    batch_forget_images: PositiveInt
    batch_retain_images: PositiveInt
    batch_people: PositiveInt
    micro_batch_images: PositiveInt
    learning_rate: float = Field(gt=0)
    decay: float = Field(ge=0, le=1)
    resist: ResistSettings | None = None
    mask_on: Literal["forget_gradient", "update"]
    clip: float = Field(gt=0)
    compute: ComputeSettings
    seed: Seed

    @field_validator("compute")
    @classmethod
    def _trains_no_quantised_llm(cls, compute: ComputeSettings, given: ValidationInfo) -> ComputeSettings:
        wanted = {"scope": "vision", "sharding": "none", "resist": None}
        other = [name for name, value in wanted.items() if given.data.get(name, value) != value]
        if compute.llm_bits and other:
            raise ValueError(
                f"llm_bits = {compute.llm_bits} needs an LLM that stays as it is, in one piece; set "
                f"unlearn.{other[0]} to {wanted[other[0]] or 'null'}, or leave llm_bits null"
            )
        return compute


class EvaluationSettings(Section):
    """How answers are scored (METHODS: option likelihood, or the option's letter) and how sure the figures are."""

    choice: Literal["options", "letter"]
    generate: bool
    batch_images: PositiveInt
    bootstrap: PositiveInt
    compute: ComputeSettings
    seed: Seed


class RelearnSettings(TrainingSettings):
    """The relearning attack of Section 4.5: the same budget for every model it is aimed at.

    parts: of the model that the attacker trains. rank: of low-rank additions to them, trained in place of their weights
    (None: the weights).
    `choice` and `evaluation_batch_images` are those of the evaluation: what comes back is scored as everything else.
    """

    percents: tuple[Annotated[int, Field(gt=0, lt=100)], ...]
    samplings: tuple[Literal["person", "image"], ...]
    parts: Annotated[tuple[Part, ...], Field(min_length=1)] = ("tower", "projector", "llm")
    rank: PositiveInt | None = None
    epochs: PositiveInt
    batch_images: PositiveInt
    learning_rate: float = Field(gt=0)
    choice: Literal["options", "letter"]
    evaluation_batch_images: PositiveInt
    compute: WholeCompute
    seed: Seed
