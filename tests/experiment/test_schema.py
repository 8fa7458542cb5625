"""The schema that editors read accepts what the gate accepts."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from triform.experiment import load, schema
from triform.experiment.checks import METRICS
from triform.experiment.schema import kinds, root

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def violations(node: dict[str, Any], value: Any, *, defs: dict[str, Any], at: str = "") -> list[str]:
    """Where a value breaks a JSON schema, for the words that ours uses."""
    if "$ref" in node:
        return violations(defs[node["$ref"].split("/")[-1]], value, defs=defs, at=at)
    if "oneOf" in node:
        found = [violations(member, value, defs=defs, at=at) for member in node["oneOf"]]
        return [] if sum(not each for each in found) == 1 else [f"{at}: not exactly one member", *min(found, key=len)]
    if not isinstance(value, TYPES[node["type"]]) or (isinstance(value, bool) and node["type"] != "boolean"):
        return [f"{at}: {value} is no {node['type']}"]
    bad = [f"{at}: {value} breaks {word}" for word, holds in _limits(node, value).items() if not holds]
    if isinstance(value, dict):
        bad += [f"{at}: {key} missing" for key in node.get("required", []) if key not in value]
        for key, item in value.items():
            bad += (
                violations(node["properties"][key], item, defs=defs, at=f"{at}.{key}")
                if key in node["properties"]
                else [f"{at}.{key} unknown"]
            )
    if isinstance(value, list):
        for index, item in enumerate(value):
            bad += violations(node["prefixItems"][index] if "prefixItems" in node else node["items"], item, defs=defs, at=f"{at}[{index}]")
    return bad


def _limits(node: dict[str, Any], value: Any) -> dict[str, bool]:
    rules: dict[str, Any] = {
        "enum": lambda limit: value in limit,
        "const": lambda limit: value == limit,
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "minItems": lambda limit: len(value) >= limit,
        "maxItems": lambda limit: len(value) <= limit,
        "pattern": lambda limit: bool(re.search(limit, value)),
    }
    return {word: rules[word](node[word]) for word in rules.keys() & node.keys()}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_loads_and_fits_the_schema(path: Path) -> None:
    assert load(path).experiment.name == path.stem
    tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    assert violations(schema(), tree, defs=schema()["$defs"]) == []


def test_the_schema_refuses_what_the_gate_refuses() -> None:
    tree = {
        "name": "a/b",
        "data": {"kind": "ply_cloud"},
        "task": {"kind": "point_autoencoder"},
        "training": {"batch_size": "64", "batch": 1},
    }
    found = violations(schema(), tree, defs=schema()["$defs"])
    assert ".name: a/b breaks pattern" in found
    assert ".data: not exactly one member" in found
    assert ".training.batch_size: 64 is no integer" in found
    assert ".training.batch unknown" in found


def test_there_are_experiments() -> None:
    assert {"maize_autoencoder", "maize_autoencoder_msg", "maize_autoencoder_folding"} <= {path.stem for path in EXPERIMENTS}


def test_the_schema_is_the_callers_own() -> None:
    schema()["properties"].clear()
    assert schema()["properties"]["training"]["default"]["scheduler_type"] == "cosine"


def test_every_task_has_metrics_to_monitor() -> None:
    assert METRICS.keys() == kinds(root()["properties"]["task"]).keys()


def test_fractions_always_leave_samples_to_train() -> None:
    dealt = {name: member for name, member in kinds(root()["properties"]["data"]).items() if "val_fraction" in member["properties"]}
    assert {"ply_clouds", "mesh_files"} <= dealt.keys()
    for name, member in dealt.items():
        held_out = [member["properties"][f"{split}_fraction"]["exclusiveMaximum"] for split in ("val", "test")]
        assert sum(held_out) <= 1, name


def test_import_stays_light() -> None:
    heavy = "{'torch', 'numba', 'scipy', 'matplotlib', 'temporalio', 'ruamel'}"
    code = f"import sys, triform.experiment; print(sorted({heavy} & {{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
