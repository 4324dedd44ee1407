"""The demo's outcome: not that it ended, but what it found."""

import json
import sys
from pathlib import Path

out = Path(sys.argv[1])
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
    "the report is there": (out / "report.html").stat().st_size > 10_000,
}
for name, passed in checks.items():
    print(f"{'ok  ' if passed else 'FAIL'} {name}")
sys.exit(0 if all(checks.values()) else 1)
