"""The same experiment in PyTorch and in MLX: outputs, gradients, ten updates, and runs that change frameworks in the middle.

In float64, because in float32 a near-tie of neighbours or of a maximum falls this way or that. MLX's exp is exact to float32 only: what
has a cross-entropy in it agrees less closely.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

mx = pytest.importorskip("mlx.core")

from triform.backends.mlx_backend import MlxBackend  # noqa: E402
from triform.backends.torch_backend import TorchBackend  # noqa: E402
from triform.kernels.k_nearest_torch import k_nearest  # noqa: E402
from triform.tasks.mesh_identity import loss_mlx, loss_torch, model_mlx, model_torch  # noqa: E402
from triform.tasks.mesh_identity.config import ArcFaceHead, EdgeLayer, MeshIdentity, SoftmaxHead, Triplets  # noqa: E402
from triform.training.config import Training  # noqa: E402

SIZE, NUM_VERTICES, NUM_KEPT, K = 8, 40, 16, 5
FACTS = {"num_vertices": NUM_VERTICES, "num_classes": 3}
LAYERS = (
    EdgeLayer(width=8, graph="mesh"),
    EdgeLayer(width=8),
    EdgeLayer(width=12, graph="spatial", keep_vertices=NUM_KEPT),
    EdgeLayer(width=12),
)
CONFIG = MeshIdentity(k=K, layers=LAYERS, point_width=16, hidden_widths=(16, 12), embedding_dim=8, dropout=0.0)
NO_EXP = replace(CONFIG, classification_weight=0.0)
MININGS = ("batch_hard", "batch_semi_hard", "batch_all", "random")
CASES = {f"{mining}": (replace(NO_EXP, triplets=Triplets(mining=mining)), 1e-11, 1e-9) for mining in MININGS} | {
    "softmax": (replace(CONFIG, head=SoftmaxHead(label_smoothing=0.2)), 1e-6, 1e-5),
    "arcface": (replace(CONFIG, head=ArcFaceHead(label_smoothing=0.1)), 1e-6, 1e-5),
    "soft margin": (replace(NO_EXP, triplets=Triplets(soft_margin=True)), 1e-6, 1e-5),
}
"""Settings, bound of a gradient (relative), bound of ten updates (absolute)."""


@dataclass
class Task:
    """The task's words for both frameworks; PyTorch's model in double precision where that is asked for."""

    config: MeshIdentity
    double: bool = True

    def build_torch(self, facts, seed):
        net = model_torch.IdentityNet(self.config, facts["num_classes"], seed)
        return net.double() if self.double else net

    def rate_factor(self, _name):
        return 1.0

    def loss_torch(self, model, batch):
        return loss_torch.identity_loss(self.config, model(batch), batch)

    def predict_torch(self, model, batch):
        return dict(zip(("embedding", "neck", "logits"), model(batch), strict=True))

    def build_mlx(self, facts, seed):
        return model_mlx.IdentityNet(self.config, facts["num_classes"], seed)

    def loss_mlx(self, model, batch):
        return loss_mlx.identity_loss(self.config, model(batch), batch)

    def predict_mlx(self, model, batch):
        return dict(zip(("embedding", "neck", "logits"), model(batch), strict=True))


def in_torch(config=CONFIG, dtype="float64", **settings):
    return TorchBackend(Task(config, dtype == "float64"), facts=FACTS, settings=Training(**settings), seed=3, device="cpu")


def in_mlx(config=CONFIG, dtype="float64", **settings):
    return MlxBackend(Task(config), facts=FACTS, settings=Training(**settings), seed=3, device="cpu", dtype=dtype)


def graph(generator, num_vertices):
    """K different neighbours of each vertex, itself first."""
    others = np.argsort(generator.random((SIZE, num_vertices, num_vertices)) + 9 * np.eye(num_vertices), axis=-1)[..., : K - 1]
    own = np.broadcast_to(np.arange(num_vertices)[None, :, None], (SIZE, num_vertices, 1))
    return np.concatenate([own, others], axis=-1).astype(np.int32)


def make_batch(step=0, dtype=np.float64):
    generator = np.random.default_rng([5, step])
    subject = generator.permutation(np.arange(SIZE) % 4)
    shapes = np.random.default_rng(6).normal(size=(4, NUM_VERTICES, 3))
    return {
        "coordinates": (shapes[subject] + 0.3 * generator.normal(size=(SIZE, NUM_VERTICES, 3))).astype(dtype),
        "normals": generator.normal(size=(SIZE, NUM_VERTICES, 3)).astype(dtype),
        "mesh_0": graph(generator, NUM_VERTICES),
        "pool_1": np.stack([generator.permutation(NUM_VERTICES)[:NUM_KEPT] for _ in range(SIZE)]).astype(np.int32),
        "spatial_1": graph(generator, NUM_KEPT),
        "subject": subject,
        "label": np.where(subject == 3, -1, subject),
        "draw": generator.random((SIZE, 2)).astype(np.float32),
    }


def with_random_norms(*backends):
    """Scales of both signs and statistics other than the first ones, the same for all."""
    generator, state = np.random.default_rng(8), {name: np.array(array) for name, array in backends[0].state().items()}
    for name, array in state.items():
        if name.startswith("model/") and array.ndim == 1:
            low, high = (0.5, 2) if name.endswith("running_var") else (-1, 1)
            state[name] = generator.uniform(low, high, array.shape).astype(array.dtype)
    for backend in backends:
        backend.load_state(state)


def outputs(backend, batch, *, training):
    """Embedding, neck and logits, in the model's own precision."""
    backend.model.train(training)
    if isinstance(backend, MlxBackend):
        return [np.array(each) for each in backend.model(backend.arrays(batch))]
    with torch.no_grad():
        return [each.numpy() for each in backend.model(backend.tensors(batch))]


def differences(one, other, prefixes):
    """The largest absolute difference of each array."""
    assert one.keys() == other.keys()
    return {name: float(np.abs(one[name] - other[name]).max()) for name in one if name.startswith(prefixes)}


@pytest.mark.parametrize("head", [SoftmaxHead(), ArcFaceHead()], ids=lambda head: head.kind)
@pytest.mark.parametrize("training", [False, True])
def test_both_give_the_same_outputs_and_statistics(training, head):
    one, other = in_torch(replace(CONFIG, head=head)), in_mlx(replace(CONFIG, head=head))
    with_random_norms(one, other)
    for mine, theirs in zip(*(outputs(backend, make_batch(), training=training) for backend in (one, other)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12 * max(1, np.abs(mine).max()))
    assert max(differences(one.state(), other.state(), "model/").values()) < 1e-12


@pytest.mark.parametrize("case", CASES)
def test_both_give_the_same_loss_and_gradient(case):
    """Read off the first moments, a tenth of the gradient."""
    config, bound, _ = CASES[case]
    one, other = in_torch(config, gradient_clip=0.0), in_mlx(config, gradient_clip=0.0)
    with_random_norms(one, other)
    told, also_told = (backend.train_step(make_batch(), 0, 0.0) for backend in (one, other))
    assert told == pytest.approx(also_told, rel=max(bound, 1e-7))
    gradients = {name: array for name, array in one.state().items() if name.startswith("m/")}
    whole = np.sqrt(sum((array**2).sum() for array in gradients.values()))
    assert whole > 0
    for name, array in gradients.items():
        distance = np.linalg.norm(array - other.state()[name])
        assert distance <= bound * max(np.linalg.norm(array), 1e-3 * whole), name


@pytest.mark.parametrize(("case", "parts"), [("batch_hard", 1), ("batch_all", 2), ("softmax", 1), ("arcface", 1)])
def test_ten_updates_lead_to_the_same_place(case, parts):
    config, _, bound = CASES[case]
    settings = {"gradient_accumulation_steps": parts, "weight_decay": 0.05, "gradient_clip": 0.5}
    one, other = in_torch(config, **settings), in_mlx(config, **settings)
    start = {name: np.array(array) for name, array in one.state().items()}
    for step in range(10):
        told, also_told = (backend.train_step(make_batch(step), step, 1e-3) for backend in (one, other))
        assert told["loss"] == pytest.approx(also_told["loss"], abs=bound)
        assert told["gradient_norm"] == pytest.approx(also_told["gradient_norm"], rel=10 * bound)
    far = differences(start, one.state(), "model/")
    assert min(far.values()) > 100 * bound or config.classification_weight == 0
    assert max(differences(one.state(), other.state(), ("model/", "m/", "v/")).values()) < bound
    assert one.state()["updates"] == other.state()["updates"] == 10


@pytest.mark.parametrize("makers", [(in_torch, in_mlx), (in_mlx, in_torch)], ids=["torch to mlx", "mlx to torch"])
def test_a_run_goes_on_in_the_other_framework(makers):
    """Five steps in one, ten in the other; within 1e-5 of the unbroken run."""
    first, second = (maker() for maker in makers)
    for step in range(5):
        first.train_step(make_batch(step), step, 1e-3)
    second.load_state({name: np.array(array) for name, array in first.state().items()})
    for step in range(5, 15):
        for backend in (first, second):
            backend.train_step(make_batch(step), step, 1e-3)
    assert max(differences(first.state(), second.state(), ("model/", "m/", "v/")).values()) < 1e-5
    assert first.state()["updates"] == second.state()["updates"] == 15


def test_float32_agrees_on_given_graphs():
    """With all neighbours given; what is left is the rounding of sums."""
    given = replace(CONFIG, layers=tuple(replace(layer, graph="mesh" if i < 2 else "spatial") for i, layer in enumerate(LAYERS)))
    one, other = in_torch(given, "float32"), in_mlx(given, "float32")
    with_random_norms(one, other)
    results = [outputs(backend, make_batch(dtype=np.float32), training=False) for backend in (one, other)]
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def distances(x, neighbors):
    found = np.take_along_axis(x[:, None], neighbors[..., None].astype(np.int64), axis=2)
    return np.sort(np.linalg.norm(found - x[:, :, None], axis=-1), axis=-1)


@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_both_find_neighbours_equally_near(offset):
    """In float32 distances, never indices: near-ties are decided by rounding. In float64 the same sets."""
    x = np.random.default_rng(0).normal(size=(2, 150, 32)) + offset
    for dtype in (np.float32, np.float64):
        cloud = x.astype(dtype)
        mine = k_nearest(torch.from_numpy(cloud), 12).numpy()
        theirs = np.array(model_mlx.nearest(mx.array(cloud, dtype=mx.float32 if dtype == np.float32 else mx.float64), 12))
        np.testing.assert_allclose(distances(x, mine), distances(x, theirs), rtol=1e-4, atol=1e-6)
        assert dtype == np.float32 or np.array_equal(np.sort(mine, -1), np.sort(theirs, -1))


def test_float32_learns_equally_well_in_both():
    """No tolerance of a float32 trajectory means anything; where it ends does."""
    ends = []
    for backend in (in_torch(dtype="float32"), in_mlx(dtype="float32")):
        told = [backend.train_step(make_batch(step % 2, np.float32), step, 5e-3) for step in range(16)]
        ends.append([told[0]["loss"], told[-1]["loss"], told[-1]["accuracy"]])
    assert all(last < 0.6 * first and accuracy == 1 for first, last, accuracy in ends)
