"""Full and merged models belong to plain transformers: another process, without unsee, gets the same logits."""

import subprocess
import sys

import torch

from unsee.mllm import checkpoint, inspect
from unsee.mllm.families import Mllm
from unsee.storage import artifact

PLAIN = """
import sys
sys.modules["unsee"] = None  # importing it fails
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
directory, image, out = sys.argv[1:]
torch.set_num_threads(1)
image = Image.open(image)
messages = [{"role": "user", "content": [
    {"type": "image"}, {"type": "text", "text": "What is the pet of this person?"}
]}]
PREPARE
model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
with torch.no_grad():
    torch.save({"ids": inputs["input_ids"], "logits": model(**inputs).logits}, out)
try:
    import unsee
except ImportError:
    print("without unsee")
"""
PREPARE = {
    "llava": """
processor = AutoProcessor.from_pretrained(directory)
text = processor.apply_chat_template(messages, add_generation_prompt=True)
inputs = processor(text=text, images=image, return_tensors="pt", add_special_tokens=False)
""",
    # Qwen2-VL's own processor also reads videos and needs torchvision for that; these are the lines of it that count.
    "qwen2_vl": """
tokenizer = AutoTokenizer.from_pretrained(directory)
inputs = AutoImageProcessor.from_pretrained(directory)(images=image, return_tensors="pt")
text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
text = text.replace("<|image_pad|>", "<|image_pad|>" * (int(inputs["image_grid_thw"].prod()) // 4))
inputs["input_ids"] = tokenizer(text, return_tensors="pt")["input_ids"]
inputs["mm_token_type_ids"] = (inputs["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
""",
}


def ask_plain_transformers(family, directory, image, tmp_path):
    out = tmp_path / "logits.pt"
    script = PLAIN.replace("PREPARE", PREPARE[family])
    command = [sys.executable, "-I", "-c", script, str(directory), str(image), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "without unsee\n", done.stderr
    return torch.load(out)


def ask(mllm: Mllm, image):
    """The packed model's own ids and logits for the same question."""
    ids = torch.tensor([mllm.prompter.asked("What is the pet of this person?", image=True)])
    with torch.no_grad():
        return {"ids": ids, "logits": mllm.model(**mllm.model_inputs(ids, mllm.pixels([image]))).logits}


def test_a_merged_model_loads_in_plain_transformers_with_the_same_logits(mllm, family, small_benchmark, tmp_path):
    base, delta, merged = tmp_path / "base", tmp_path / "delta", tmp_path / "merged"
    checkpoint.save_full(mllm, base)
    with torch.no_grad():
        list(mllm.projector.parameters())[-2].mul_(1.5)
    with artifact.create(delta, "model", {}):
        checkpoint.save_delta(mllm, base, delta, method="vkd", seed=0, config={})
    inspect.merge(delta, base, merged)
    question = small_benchmark.select(role="eval", view="heldout")[0]
    found = ask_plain_transformers(family, merged, small_benchmark.directory / question.image, tmp_path)
    expected = ask(mllm, small_benchmark.image(question))
    assert torch.equal(found["ids"], expected["ids"])
    torch.testing.assert_close(found["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
