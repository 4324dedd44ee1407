"""Loading a checkpoint of several shards takes the memory of the tensors that are kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from unsee.mllm.families import FAMILIES
from unsee.mllm.stored import INDEX
from unsee.settings import SHIPPED_BASE

MEASURE = """
import json, sys
from pathlib import Path
from unsee.compute import Compute
from unsee.memory import peak_resident
from unsee.mllm import checkpoint, lora
before = peak_resident()
compute = Compute(threads=1, precision=sys.argv[2], llm_bits=int(sys.argv[4]) or None)
mllm = checkpoint.load(Path(sys.argv[1]), compute=compute)
kept = sum(t.nbytes for t in (*mllm.model.parameters(), *mllm.model.buffers()))
loaded = peak_resident()
checkpoint.save_delta(mllm, Path(sys.argv[3]), Path(sys.argv[3]) / "none", method="", seed=0, config={})
print(json.dumps({"before": before, "kept": kept, "loaded": loaded, "compared": peak_resident()}))
"""


def write_checkpoint(directory: Path, layers: int, shards: int) -> Path:
    """A LLaVA with few and wide LLM layers in bfloat16, of some 200 MB a layer, in shards."""
    config = AutoConfig.from_pretrained(SHIPPED_BASE)
    shape = {"hidden_size": 4096, "intermediate_size": 4096, "num_hidden_layers": layers}
    config.text_config.update({**shape, "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128})
    with torch.device("meta"):
        model = FAMILIES["llava"].model_class(config)
    directory.mkdir()
    for file in SHIPPED_BASE.glob("*"):
        if file.suffix in (".json", ".jinja"):
            (directory / file.name).write_bytes(file.read_bytes())
    config.save_pretrained(directory)
    names, where = list(model.state_dict()), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: torch.full(model.state_dict()[n].shape, 0.01, dtype=torch.bfloat16) for n in names[number::shards]}
        save_file(part, directory / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(part, file))
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return directory


@pytest.mark.long
@pytest.mark.parametrize(("precision", "layers", "bits"), [("bfloat16", 13, 0), ("float32", 7, 0), ("bfloat16", 13, 8)])
def test_loading_and_comparing_peak_at_the_size_of_what_is_kept(tmp_path, precision, layers, bits):
    base = write_checkpoint(tmp_path / "base", layers, shards=5)
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, base, precision, base, str(bits)], check=True, capture_output=True, text=True
    )
    figures = json.loads(found.stdout.splitlines()[-1])
    assert figures["kept"] > (1.5e9 if bits else 3e9)
    assert figures["loaded"] - figures["before"] <= 1.15 * figures["kept"]
    assert figures["compared"] - figures["before"] <= 1.15 * figures["kept"]
