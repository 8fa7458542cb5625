"""What pretraining on 2D is worth where few sequences have 3D: the small encoder on CMU's motion capture.

    python tools/cmu_npz.py cmu_train_h36m17_mm_60hz.npz cmu
    python benchmarks/few_labels.py cmu [--pretraining multi_view,masked] [--runs runs/few_labels] [--draws 5] [--jobs 2] [--quick] [--json]

Two protocols: whole actions held out (jumping and soccer), and 20 percent of the sequences. In each, two kinds of pretraining see the 2D of
the training split alone: `pose_pretrain_multi_view.yaml`, what all cameras saw of each moment, `pose_pretrain_small.yaml`, one camera at a
time. Then each draw of 10 percent of the training sequences trains the same model by the same steps, from each pretrained model
(`pose_finetune_npz.yaml`) and from scratch (`pose_scratch_npz.yaml`). Nothing is chosen by validation: the last model is measured. Beside
them stand the constant pose and ridge regression from the flattened 27 frames of 2D, as they are and centred, of the same sequences.

All runs are `triform train` and `triform evaluate`, so the whole can be stopped and started again. --quick: people of the generator, one
draw, the first kind, one small layer, which shows that it works and nothing else.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
PROTOCOLS = {"actions": ["--test-actions", "[jumping, soccer]"], "sequences": ["--test-fraction", "0.2"]}
PRETRAINED = {"multi_view": "pose_pretrain_multi_view.yaml", "masked": "pose_pretrain_small.yaml"}
FINETUNED, FROM_SCRATCH = "pose_finetune_npz.yaml", "pose_scratch_npz.yaml"
BASELINES = ("ridge", "ridge_centred", "constant")
QUICK = [
    "--task.encoder.depth",
    "1",
    "--task.encoder.width",
    "32",
    "--num-epochs",
    "1",
    "--clip-stride",
    "40",
    "--labelled-fraction",
    "0.5",
]


@dataclass(frozen=True)
class Place:
    """Where data and runs lie, and what every command gets besides."""

    data: Path
    runs: Path
    extra: tuple[str, ...]

    def triform(self, *words: str | Path) -> None:
        command = [sys.executable, "-m", "triform.cli", *map(str, words)]
        environment = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")

    def train(self, name: str, experiment: str, protocol: str, *more: str | Path) -> Path:
        """Train to the end, or nothing where that is done. Returns: the run's folder."""
        folder = self.runs / name
        where = ["--data-dir", self.data, "--prepared-dir", self.runs / f"data_{protocol}", "--output-dir", folder, "--name", name]
        self.triform("train", EXPERIMENTS / experiment, *where, *PROTOCOLS[protocol], *self.extra, *more)
        return folder


def measured(place: Place, protocol: str, draw: int, arm: str) -> dict[str, float]:
    """Test MPJPE (mm) of one run and of the baselines on its labels."""
    words = ["--labelled-draw", str(draw)]
    if arm in PRETRAINED:
        folder = place.train(f"{arm}_{protocol}_{draw}", FINETUNED, protocol, *words, "--init-from", place.runs / f"{arm}_{protocol}")
    else:
        folder = place.train(f"{arm}_{protocol}_{draw}", FROM_SCRATCH, protocol, *words)
    place.triform("evaluate", folder)
    scores = json.loads((folder / "evaluation" / "metrics.json").read_text())["scores"]["test"]
    steps = json.loads((folder / "final" / "result.json").read_text())["steps"]
    return {arm: scores["model"]["mpjpe_mm"], **{name: scores[name]["mpjpe_mm"] for name in BASELINES}, "steps": steps}


def compare(place: Place, protocol: str, kinds: Sequence[str], *, draws: int, pool: ThreadPoolExecutor) -> list[dict[str, float]]:
    """One row a draw."""
    begun = [pool.submit(place.train, f"{kind}_{protocol}", PRETRAINED[kind], protocol) for kind in kinds]
    for pretrained in begun:
        pretrained.result()
    found = {(draw, arm): pool.submit(measured, place, protocol, draw, arm) for draw in range(draws) for arm in (*kinds, "scratch")}
    rows = []
    for draw in range(draws):
        told = [found[draw, arm].result() for arm in (*kinds, "scratch")]
        assert len({one["steps"] for one in told}) == 1, "the arms are trained by the same steps"
        rows.append({name: value for one in told for name, value in one.items()})
    return rows


def table(rows: dict[str, list[dict[str, float]]], kinds: Sequence[str]) -> str:
    shown = (*kinds, "scratch", *BASELINES)
    columns = ["held out", "draw", "steps", *shown, *(f"{kind} against scratch" for kind in kinds)]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for protocol, draws in rows.items():
        for number, row in enumerate(draws):
            told = [f"{row[name]:.1f}" for name in shown] + [f"{row[kind] / row['scratch'] - 1:+.1%}" for kind in kinds]
            lines.append(f"| {protocol} | {number} | {row['steps']:.0f} | {' | '.join(told)} |")
        told = [_spread([row[name] for row in draws], "{:.1f}") for name in shown]
        told += [_spread([row[kind] / row["scratch"] - 1 for row in draws], "{:+.1%}") for kind in kinds]
        lines.append(f"| **{protocol}** | all | | {' | '.join(told)} |")
    return "\n".join(lines)


def _spread(values: list[float], form: str) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"**{form.format(statistics.fmean(values))}** +- {form.replace('+', '').format(deviation)}"


def as_json(rows: dict[str, list[dict[str, float]]], kinds: Sequence[str]) -> list[dict[str, Any]]:
    told = []
    for protocol, draws in rows.items():
        means = {name: statistics.fmean(row[name] for row in draws) for name in draws[0]}
        for kind in kinds:
            ours, reference = means[kind], means["scratch"]
            agree = ours <= 0.9 * reference and reference < min(means["ridge"], means["constant"])
            row = {"name": f"few labels, {kind}, {protocol} held out, mm", "ours": ours, "reference": reference}
            told.append(row | {"ratio": reference / ours, "ours_mb": None, "reference_mb": None, "agree": agree})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder that tools/cmu_npz.py wrote")
    parser.add_argument("--pretraining", default=",".join(PRETRAINED), help="kinds, with commas between")
    parser.add_argument("--runs", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    protocols, place = list(PROTOCOLS), Place(asked.data, asked.runs, ())
    if asked.quick:
        shutil.rmtree(asked.runs / "quick", ignore_errors=True)
        place, protocols = Place(asked.runs / "quick" / "people", asked.runs / "quick", tuple(QUICK)), ["sequences"]
        place.triform("grow-people", place.data, "--num-frames", "60")
    elif asked.data is None:
        parser.error("name the folder that tools/cmu_npz.py wrote, or give --quick")
    draws, kinds = asked.draws, asked.pretraining.split(",")
    if asked.quick:
        draws, kinds = 1, kinds[:1]
    with ThreadPoolExecutor(asked.jobs) as pool, ThreadPoolExecutor(len(protocols)) as asking:
        found = {protocol: asking.submit(compare, place, protocol, kinds, draws=draws, pool=pool) for protocol in protocols}
        rows = {protocol: each.result() for protocol, each in found.items()}
    print(json.dumps(as_json(rows, kinds), indent=1) if asked.json else table(rows, kinds))


if __name__ == "__main__":
    main()
