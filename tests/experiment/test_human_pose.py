"""Clashes of pose experiments: fields that are each right and don't fit each other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from triform.errors import ExperimentError
from triform.experiment import fingerprint, load, monitor

Mistakes = Callable[..., list[str]]
LIFTING = "name: a\ndata: {kind: pose_npz, num_frames: 9}\ntask: {kind: pose_lifting, encoder: {kind: alternating, width: 16, heads: 2}}\n"
MASKED = LIFTING.replace("pose_lifting", "pose_pretraining, objective: {kind: masked_autoencoder}")
DENOISING = LIFTING.replace("pose_lifting", "pose_pretraining, objective: {kind: denoising}")
MULTI_VIEW = LIFTING.replace("pose_lifting", "pose_pretraining, objective: {kind: multi_view}")
ON_LINE = "on the command line, "


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (LIFTING, "--width=15", f"{ON_LINE}--width: got 15, expected a multiple of heads, 2"),
        (LIFTING, "--encoder.heads=3", "x.yaml:3:57 task.encoder.width: got 16, expected a multiple of heads, 3"),
        (LIFTING, "--scale-range=[1.2,1]", f"{ON_LINE}--scale-range: got 1.2 before 1, expected the smallest factor first"),
        (LIFTING, "--speed-range=[2,1]", f"{ON_LINE}--speed-range: got 2 before 1, expected the smallest factor first"),
        (LIFTING, "--monitor=hidden", "expected a metric of the task: mpjpe or p_mpjpe or n_mpjpe or mpjve"),
        (MASKED, "--monitor=mpjpe", "expected a metric of the task: hidden or reconstruction"),
        (DENOISING, "--monitor=hidden", f'{ON_LINE}--monitor: got "hidden", expected a metric of the task: mpjpe'),
        (LIFTING, "--backend=mlx", f'{ON_LINE}--backend: got "mlx", expected auto or torch: this task has no model in MLX'),
        (LIFTING, "--data.kind=ply_clouds", "expected pose_npz, cmu_bvh, h36m_videopose3d, h36m_motionbert, mpi_inf_3dhp or"),
        (MASKED, "--masked-joints=17", f"{ON_LINE}--masked-joints: got 17, expected at most 16 of the 17 joints"),
        (MASKED, "--masked-joints=0 --frame-mask-ratio=0.05", "which hides none of 9 frames, and no joints are hidden"),
        (MASKED, "--decoder-width=5", f"{ON_LINE}--decoder-width: got 5, expected a multiple of heads, 2"),
        (MASKED, "--width=18 --encoder.heads=6", "decoder_width: got 9, expected a multiple of heads, 6"),
        (MULTI_VIEW, "--rotate-up-degrees=90", f"{ON_LINE}--rotate-up-degrees: got 90, expected 0: where the cameras stand is not known"),
        (MULTI_VIEW, "--virtual-cameras=2", f"{ON_LINE}--virtual-cameras: got 2, expected 3 at least"),
        (MULTI_VIEW, "--monitor=hidden", f'{ON_LINE}--monitor: got "hidden", expected a metric of the task: mpjpe'),
        (LIFTING, "--losses.mpjpe=0 --losses.n-mpjpe=0 --velocity=0", "all weights are 0, expected one at least above 0"),
    ],
)
def test_fields_must_fit_each_other(mistakes: Mistakes, text: str, words: str, line: str) -> None:
    (told,) = mistakes(text, *words.split())
    assert line in told


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--frame-mask-ratio=1", "frame-mask-ratio: got 1"),
        ("--width=0", "width: got 0"),
        ("--rotate-up-degrees=181", "rotate-up-degrees: got 181"),
        ("--flip-probability=1.5", "flip-probability: got 1.5"),
        ("--speed-range=[0,1]", "speed-range[0]: got 0"),
        ("--labelled-fraction=0", "labelled-fraction: got 0"),
        ("--num-frames=0", "num-frames: got 0"),
        ("--layer-decay=0.5", "layer-decay: is no field"),
    ],
)
def test_each_field_has_its_range(mistakes: Mistakes, words: str, line: str) -> None:
    (told,) = mistakes(MASKED, words)
    assert line in told


@pytest.mark.parametrize("words", [(), ("--masked-joints=0",), ("--masked-joints=16", "--frame-mask-ratio=0"), ("--decoder-width=4",)])
def test_what_fits(small: Path, words: tuple[str, ...]) -> None:
    small.write_text(MASKED)
    assert load(small, words).experiment.task.kind == "pose_pretraining"


@pytest.mark.parametrize("losses", ["--reprojection=1", "--symmetry=0.1", "--bone-length=1"])
def test_one_loss_is_enough(small: Path, losses: str) -> None:
    small.write_text(LIFTING)
    load(small, ["--losses.mpjpe=0", "--losses.n-mpjpe=0", "--velocity=0", losses])


@pytest.mark.parametrize(("text", "metric"), [(LIFTING, "mpjpe"), (MASKED, "hidden"), (DENOISING, "mpjpe")])
def test_what_picks_the_best_model(small: Path, text: str, metric: str) -> None:
    small.write_text(text)
    assert monitor(load(small, []).experiment) == (metric, "lower")


def test_where_weights_come_from_is_no_part_of_the_fingerprint_and_layer_decay_is(small: Path) -> None:
    small.write_text(LIFTING)
    plain, initialised, decayed = (
        fingerprint(load(small, list(words)).experiment) for words in ((), ("--init-from=x",), ("--layer-decay=0.9",))
    )
    assert plain == initialised != decayed


def test_weights_for_a_task_that_has_no_encoder_to_pretrain(mistakes: Mistakes) -> None:
    (told,) = mistakes(None, "--init-from=runs/a")
    assert told.startswith(f"{ON_LINE}--init-from: ")
    assert "no encoder that is pretrained" in told


def test_all_clashes_are_told_at_once(mistakes: Mistakes) -> None:
    assert len(mistakes(MASKED, "--width=15", "--scale-range=[2,1]", "--masked-joints=17", "--monitor=mpjpe")) >= 4


def test_an_encoder_that_is_not_there(small: Path) -> None:
    small.write_text(LIFTING.replace("alternating", "triple_stream"))
    with pytest.raises(ExperimentError, match="expected one of dual_stream, alternating, frame_tokens"):
        load(small, [])
