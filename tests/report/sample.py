"""A report as a finished run would make it: falling curves, made plants, a table with floor and baseline, a history."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.report.panels import (
    CloudPair,
    CloudPairs,
    Curves,
    Event,
    Events,
    Fact,
    Histogram,
    HistogramSeries,
    KeyValues,
    MeshView,
    MeshViews,
    Report,
    Scatter,
    Series,
    Table,
)

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


def distances() -> Histogram:
    """Few small distances within subjects, many larger ones between them."""
    rng, edges = np.random.default_rng(5), np.linspace(0, 2, 41)
    genuine, impostor = np.histogram(rng.normal(0.5, 0.12, 600), edges)[0], np.histogram(rng.normal(1.2, 0.15, 18_000), edges)[0]
    series = (HistogramSeries("genuine", edges, genuine), HistogramSeries("impostor", edges, impostor))
    return Histogram("Distances of pairs", series, "distance", note="Test subjects.")


def ball(stretch: float = 1.0, *, rings: int = 24, turns: int = 36) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices and triangles of a globe with a nose, 10 mm in radius and `stretch` times as high, y up."""
    down, around = np.meshgrid(np.linspace(0, np.pi, rings), np.arange(turns) * 2 * np.pi / turns, indexing="ij")
    out = 10 + 4 * np.exp(-((down - np.pi / 2) ** 2 + (around - np.pi / 2) ** 2) / 0.08)
    places = out[..., None] * np.stack([np.sin(down) * np.cos(around), stretch * np.cos(down), np.sin(down) * np.sin(around)], axis=-1)
    index = np.arange(rings * turns, dtype=np.int32).reshape(rings, turns)
    a, b, c, d = (part.ravel() for part in (index[:-1], np.roll(index, -1, 1)[:-1], index[1:], np.roll(index, -1, 1)[1:]))
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)])
    return places.reshape(-1, 3).astype(np.float32), faces.astype(np.int32)


def saliency() -> MeshViews:
    """Two globes whose noses matter, and a cloud."""
    views = []
    for name, stretch, is_mesh in (("subject_0001", 1.0, True), ("subject_0002", 1.3, True), ("subject_0003", 1.1, False)):
        vertices, faces = ball(stretch)
        values = np.maximum(vertices[:, 2] - 5, 0).astype(np.float32)
        views.append(MeshView(name, "mesh_000001" if is_mesh else "without faces", vertices, faces if is_mesh else None, values))
    return MeshViews("Which vertices drive identity", tuple(views), "mm", "y", "gradient (1/mm)", "Mean over the probes.")


def subject_map(count: int = 60) -> Scatter:
    """Ten meshes of each of many subjects, on a lattice of ten columns."""
    names = [f"subject_{index:04d}" for index in range(count)]
    places = np.array([(index % 10 + 0.4 * np.cos(mesh), index // 10 + 0.4 * np.sin(mesh)) for index in range(count) for mesh in range(10)])
    labels = tuple(f"{name}/mesh_{mesh:06d}" for name in names for mesh in range(10))
    return Scatter("Embeddings", places, labels, tuple(name for name in names for _ in range(10)), "t-SNE.", "subjects")


def identity_report() -> Report:
    """What mesh identity shows beside curves and tables."""
    return sample_report(title="faces-01", facts=(), panels=(distances(), saliency(), subject_map()))


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
