"""Maps of embeddings in the plane: PCA always, t-SNE and UMAP where their packages are installed. Equal seeds give equal maps."""

import importlib.util
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

Rows = Float[np.ndarray, "mesh value"]
Plane = Float32[np.ndarray, "mesh 2"]

_ONE_POINT = 1e-6
"""Spread below which unit vectors are one point: t-SNE would divide by it, and scikit-learn then ends the whole process (SIGSEGV)."""


def embedding_maps(embedding: Rows, *, seed: int) -> tuple[dict[str, Plane], str]:
    """Return maps by name (PCA, t-SNE, UMAP), and a note on what is left out and why; no map for fewer than three meshes, and
    only PCA of a collapsed embedding."""
    if len(embedding) < 3:
        return {}, ""
    maps, missing = {"PCA": pca(embedding)}, []
    if np.ptp(embedding, axis=0).max() < _ONE_POINT:
        return maps, "t-SNE and UMAP left out: all embeddings are the same."
    for name, module, draw in (("t-SNE", "sklearn", tsne), ("UMAP", "umap", umap)):
        if importlib.util.find_spec(module) is None:
            missing.append(name)
        elif len(embedding) >= 5:
            maps[name] = draw(embedding, seed=seed)
    note = f"{' and '.join(missing)} left out: pip install 'triform[embed]'." if missing else ""
    return maps, note


def pca(embedding: Rows) -> Plane:
    """Return coordinates on the two axes of greatest variance; the largest loading of an axis is positive."""
    centred = embedding.astype(np.float64) - embedding.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.where(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1) < 0, -1, 1)[:2]
    found = np.zeros((len(embedding), 2), np.float32)
    found[:, : len(axes)] = centred @ axes.T
    return found


def tsne(embedding: Rows, *, seed: int) -> Plane:
    """Return a t-SNE map, started from the PCA; perplexity 30, less for few meshes.

    Source: van der Maaten and Hinton, "Visualizing Data using t-SNE" (JMLR 2008).
    """
    from sklearn.manifold import TSNE  # type: ignore[import-untyped, import-not-found, unused-ignore]

    perplexity = min(30.0, (len(embedding) - 1) / 3)
    return _silently(TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed % 2**32, n_jobs=1), embedding)


def umap(embedding: Rows, *, seed: int) -> Plane:
    """Return a UMAP map; 15 neighbours, fewer for few meshes. One thread: more would not repeat.

    Source: McInnes et al., "UMAP: Uniform Manifold Approximation and Projection" (2018).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP  # type: ignore[import-untyped, import-not-found, unused-ignore]
    # Few meshes have no spectral start: the eigenvectors would be more than half of them.
    init = "spectral" if len(embedding) > 15 else "random"
    return _silently(UMAP(n_neighbors=min(15, len(embedding) - 1), init=init, random_state=seed % 2**32, n_jobs=1), embedding)


def _silently(method: Any, embedding: Rows) -> Plane:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(method.fit_transform(embedding.astype(np.float32)), np.float32)
