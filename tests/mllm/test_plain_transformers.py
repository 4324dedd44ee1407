"""Full and merged models belong to plain transformers: another process, without unsee, gets the same logits."""

import subprocess
import sys

import torch

from unsee.mllm import checkpoint, inspect
from unsee.mllm.families import Llava
from unsee.storage import artifact

PLAIN = """
import sys
sys.modules["unsee"] = None  # importing it fails
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
directory, image, out = sys.argv[1:]
torch.set_num_threads(1)
processor = AutoProcessor.from_pretrained(directory)
model = LlavaForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
content = [{"type": "image"}, {"type": "text", "text": "What is the pet of this person?"}]
text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
inputs = processor(text=text, images=Image.open(image), return_tensors="pt", add_special_tokens=False)
with torch.no_grad():
    torch.save({"ids": inputs["input_ids"], "logits": model(**inputs).logits}, out)
try:
    import unsee
except ImportError:
    print("without unsee")
"""


def ask_plain_transformers(directory, image, tmp_path):
    out = tmp_path / "logits.pt"
    command = [sys.executable, "-I", "-c", PLAIN, str(directory), str(image), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "without unsee\n", done.stderr
    return torch.load(out)


def ask(llava: Llava, image):
    """The packed model's own ids and logits for the same question."""
    prompt = llava.prompter.asked("What is the pet of this person?", image=True)
    with torch.no_grad():
        ids, pixels = torch.tensor([prompt]), llava.pixels([image])
        return {"ids": ids, "logits": llava.model(input_ids=ids, pixel_values=pixels).logits}


def test_a_merged_model_loads_in_plain_transformers_with_the_same_logits(llava, small_benchmark, tmp_path):
    base, delta, merged = tmp_path / "base", tmp_path / "delta", tmp_path / "merged"
    checkpoint.save_full(llava, base)
    with torch.no_grad():
        llava.projector.linear_2.weight.mul_(1.5)
    with artifact.create(delta, "model", {}):
        checkpoint.save_delta(llava, base, delta, method="vkd", seed=0, config={})
    inspect.merge(delta, base, merged)
    question = small_benchmark.select(role="eval", view="heldout")[0]
    found = ask_plain_transformers(merged, small_benchmark.directory / question.image, tmp_path)
    expected = ask(llava, small_benchmark.image(question))
    assert torch.equal(found["ids"], expected["ids"])
    torch.testing.assert_close(found["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
