"""A report as a finished run would make it: falling curves, made plants, a table with floor and baseline, a history."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.report.panels import CloudPair, CloudPairs, Curves, Event, Events, Fact, KeyValues, Report, Scatter, Series, Table

Floats = NDArray[np.float64]


def plant(rng: np.random.Generator, count: int, *, leaves: int = 9) -> Floats:
    """A stem with pinnate, drooping leaves: (count, 3) in millimetres, z up."""
    stem = count // 6
    height = rng.uniform(0, 260, stem)
    turn = rng.uniform(0, 2 * np.pi, stem)
    parts = [np.stack([4 * np.cos(turn) + 10 * np.sin(height / 90), 4 * np.sin(turn), height], axis=1)]
    for leaf, part in enumerate(np.array_split(np.arange(count - stem), leaves)):
        along, across = rng.uniform(0, 1, len(part)) ** 0.7, rng.uniform(-1, 1, len(part))
        base, length, angle = 50 + 200 * leaf / leaves, 130 - 7 * leaf, leaf * 2.4
        width = 26 * np.sin(np.pi * along) ** 0.8 * across
        out, up = length * along, base + 70 * along - 90 * along**2 - 0.012 * width**2
        direction, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        level = out[:, None] * direction + width[:, None] * side
        parts.append(np.column_stack([level[:, 0] + 10 * np.sin(base / 90), level[:, 1], up]))
    return np.concatenate(parts)


def nearest(points: Floats, others: Floats) -> NDArray[np.float32]:
    """Distance of each point to the nearest of the others."""
    from scipy.spatial import KDTree

    return np.asarray(KDTree(others).query(points)[0], dtype=np.float32)


def pair(name: str, caption: str, *, seed: int, blur_mm: float, count: int = 2048) -> CloudPair:
    """A plant and the same plant blurred, more so far from the stem."""
    rng = np.random.default_rng(seed)
    cloud = plant(rng, count, leaves=7 + seed)
    blurred = plant(np.random.default_rng(seed + 100), count, leaves=7 + seed)
    reach = np.hypot(blurred[:, 0], blurred[:, 1])[:, None] / 100
    blurred = blurred * (1 - 0.08 * blur_mm / 8) + rng.normal(0, 1, blurred.shape) * blur_mm * (0.25 + reach)
    errors = {"error": nearest(blurred, cloud), "input_error": nearest(cloud, blurred)}
    return CloudPair(name, caption, cloud.astype(np.float32), blurred.astype(np.float32), **errors)


def curves() -> tuple[Curves, ...]:
    """Loss on a log axis, chamfer distance, learning rate."""
    rng = np.random.default_rng(0)
    steps, epochs = np.arange(0, 6000, 5), np.arange(200, 6001, 200)
    loss = 0.9 * np.exp(-steps / 900) + 0.02
    validated = 0.95 * np.exp(-epochs / 900) + 0.026
    warm = np.minimum(steps / 300, 1) * (0.5 + 0.5 * np.cos(np.pi * steps / 6000)) * 1e-3
    train = Series("train", steps, loss * np.exp(rng.normal(0, 0.12, len(steps))))
    val = Series("val", epochs, validated * np.exp(rng.normal(0, 0.05, len(epochs))))
    chamfer = Series("val chamfer distance", epochs, 2.3 + 18 * np.exp(-epochs / 800) + rng.normal(0, 0.08, len(epochs)))
    floor = Series("floor: two samples of one plant", [200, 6000], [1.9, 1.9])
    return (
        Curves(
            "Loss",
            (train, val),
            y_label="loss",
            log_y=True,
            note="Interrupted after step 3,012 and resumed from step 3,000: no step appears twice.",
        ),
        Curves("Chamfer distance", (chamfer, floor), y_label="mm"),
        Curves("Learning rate", (Series("learning rate", steps, warm),)),
    )


def embedding_map() -> Scatter:
    """Six species as six clouds of points."""
    rng = np.random.default_rng(3)
    names = ("tomato", "maize", "tobacco", "sorghum", "barley", "arabidopsis")
    centers = rng.normal(0, 4, (6, 2))
    groups = tuple(names[index % 6] for index in range(240))
    points = np.array([centers[index % 6] + rng.normal(0, 0.8, 2) for index in range(240)])
    return Scatter(
        "Map of the embeddings", points, tuple(f"plant_{index:04d}" for index in range(240)), groups, "First two principal components."
    )


def sample_report(**changes: Any) -> Report:
    """The whole report; `changes` replace fields of it."""
    pairs = (
        pair("Best", "plant_0113 · chamfer distance 2.1 mm", seed=1, blur_mm=2.0),
        pair("Median", "plant_0078 · chamfer distance 3.4 mm", seed=2, blur_mm=4.5),
        pair("Worst", "plant_0021 · chamfer distance 8.9 mm", seed=4, blur_mm=11.0),
    )
    table = Table(
        "Reconstruction of the test plants",
        ("method", "chamfer distance (mm)", "F-score at 5 mm", "Hausdorff distance (mm)", "parameters"),
        (
            ("Floor: two samples of one plant", 1.9021, 0.9934, 9.13, None),
            ("PointNet++ and folding decoder", 2.7384, 0.9412, 21.72, 1_204_332),
            ("Baseline: mean plant", 11.9173, 0.3120, 88.4, 0),
            ("Baseline: nearest training plant", 6.4051, 0.6318, 47.09, 0),
        ),
        "48 plants that training never saw. No method can do better than the floor.",
        emphasize=1,
    )
    events = (
        Event("2025-03-03 09:12:04", "started", "Generation 1 on 1 device, 412 samples in 7 shards."),
        Event("2025-03-03 09:12:09", "quarantined", "plant_0207.ply: 31 points, fewer than the 256 needed. Training went on without it."),
        Event("2025-03-03 10:47:31", "interrupted", "Power was lost at step 3,012; the last commit is step 3,000."),
        Event("2025-03-03 11:02:18", "resumed", "Generation 2 from step 3,000."),
        Event("2025-03-03 12:31:55", "finished", "6,000 steps; best validation at step 5,600."),
    )
    settings = (
        ("task.kind", "point_autoencoder"),
        ("model.kind", "pointnet2_folding"),
        ("model.embedding_dim", "256"),
        ("training.batch_size", "32"),
        ("training.learning_rate", "0.001"),
        ("training.num_epochs", "480"),
        ("training.seed", "7"),
        ("data.digest", "sha256:5c1d2a8f90e3b7764410f2e9cd0a6b1b"),
        ("git commit", "f7f579c"),
        ("torch", "2.9.1"),
    )
    fields: dict[str, Any] = {
        "title": "tomato-autoencoder-03",
        "subtitle": "PointNet++ autoencoder on 412 plants, 6,000 steps, one interruption",
        "facts": (
            Fact("Chamfer distance, test", "2.74 mm", "floor 1.90 mm · nearest plant 6.41 mm"),
            Fact("F-score at 5 mm", "0.941", "floor 0.993 · nearest plant 0.632"),
            Fact("Best step", "5,600", "of 6,000"),
            Fact("Trained for", "3 h 05 min", "2 generations, 12 steps repeated"),
        ),
        "panels": (
            *curves(),
            table,
            CloudPairs("Input beside reconstruction", pairs, "mm", "z", "Best, median and worst of the 48 test plants."),
            embedding_map(),
            Events("History of the run", events),
            KeyValues("Settings and provenance", settings),
        ),
        "footer": "Made by Triform. Uses three.js, © its authors, MIT licence.",
    }
    return Report(**(fields | changes))
