"""Run `make demo` and check its outcome: not that it ended, but what it found, how long it took and how much memory."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

started = time.monotonic()
subprocess.run(["make", "demo"], check=True)
minutes = (time.monotonic() - started) / 60
gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
print(f"{minutes:.1f} minutes, the largest process {gigabytes:.2f} GB")

out = Path("runs/demo")
summary = json.loads((out / "summary.json").read_text())
vanilla, retrained, unlearned = (summary["models"][name] for name in ("vanilla", "retrained", "unlearned"))
heldout = "forget/vqa/heldout_accuracy"
checks = {
    "at least 20 people to forget": len(summary["forget"]) >= 20,
    "vanilla knows the faces": vanilla[heldout] >= 0.90,
    "vanilla knows the facts by name": vanilla["forget/qa/accuracy"] >= 0.95,
    "unlearned is as ignorant as retrained": abs(unlearned[heldout] - retrained[heldout]) <= 0.05,
    "others' faces stay": vanilla["retain/vqa/heldout_accuracy"] - unlearned["retain/vqa/heldout_accuracy"] <= 0.03,
    "real-world faces stay": vanilla["realworld/vqa/heldout_accuracy"] - unlearned["realworld/vqa/heldout_accuracy"]
    <= 0.05,
    "facts by name stay, face attached": vanilla["retain/qa_with_face/accuracy"]
    - unlearned["retain/qa_with_face/accuracy"]
    <= 0.03,
    "text knowledge is untouched": all(
        unlearned[f"{split}/qa/accuracy"] == vanilla[f"{split}/qa/accuracy"]
        for split in ("forget", "retain", "realworld")
    ),
    "every attack was measured": all(
        summary["relearning"][sampling][percent]["gap"] is not None
        for sampling in ("person", "image")
        for percent in ("10", "20", "30")
    ),
    "a verdict was reached": summary["verdict"]["status"] not in ("undecided", "not_forgotten"),
    "at most 10 minutes on two idle cores, 25 on slow or busy ones": minutes <= 25,
    "less than 3 GB": gigabytes < 3,
    "the report is there": (out / "report.html").stat().st_size > 10_000,
}
for name, passed in checks.items():
    print(f"{'ok  ' if passed else 'FAIL'} {name}")
sys.exit(0 if all(checks.values()) else 1)
