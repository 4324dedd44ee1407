"""Mid-size models: planned, or with `python mid_size.py NAME` run for real, which prints what memory it took."""

import json
import sys

from transformers import AutoTokenizer, LlavaConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from unsee.benchmark.schema import ForgetRequest
from unsee.compute import Compute
from unsee.memory import peak_resident, resident
from unsee.mllm.families import Llava
from unsee.plan.data import imagined
from unsee.plan.steps import Steps
from unsee.settings import SHIPPED_BASE, load_settings

COMMON = ["batch_forget_images=2", "batch_retain_images=2", "batch_people=2", "micro_batch_images=2", "layers=3"]
RUNS = {
    "vkd": (1536, 8, "vkd", [f"unlearn.{setting}" for setting in (*COMMON, "blends=2")]),
    "ga_diff": (768, 6, "ga_diff", [f"unlearn.{setting}" for setting in COMMON]),
}
"""Width and layers of the LLM, method and settings."""


class MidSize:
    """A LLaVA with 196 image tokens, random. In place of a plan's model, with contents."""

    def __init__(self, width, layers):
        self.tokenizer = AutoTokenizer.from_pretrained(SHIPPED_BASE)
        tower = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8}
        llm = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "vocab_size": 8000}
        self.config = LlavaConfig(
            vision_config={"model_type": "clip_vision_model", **tower, "image_size": 224, "patch_size": 16},
            text_config={"model_type": "llama", **llm, "num_attention_heads": 12, "num_key_value_heads": 12,
                         "head_dim": width // 12},
            image_token_index=self.tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=196,
        )  # fmt: skip
        size = {"height": 224, "width": 224}
        self.image_processor = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size=size)

    def make(self, compute):
        model = Llava.model_class(self.config).eval()
        return Llava(model, self.tokenizer, self.image_processor, compute)


class ForReal(Steps):
    """Runs the steps, and measures nothing."""

    def _measured(self, compute, prepare, images):
        prepare(self.model.make(compute))()
        raise SystemExit


def steps_of(name, make=Steps, model=None):
    width, layers, method, assignments = RUNS[name]
    settings = load_settings("embedded", assignments=[*assignments, "compute.threads=2"], method=method)
    data = imagined(settings.benchmark)
    return make(settings, data, ForgetRequest.resolve(data, ()), model or MidSize(width, layers))


def main(name):
    Compute(threads=2).start()
    steps, before = steps_of(name, ForReal), resident()
    try:
        steps.unlearn(Compute(threads=2))
    except SystemExit:
        print(json.dumps({"before": before, "peak": peak_resident()}))


if __name__ == "__main__":
    main(sys.argv[1])
