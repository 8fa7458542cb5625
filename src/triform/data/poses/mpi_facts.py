"""What MPI-INF-3DHP's files don't say themselves: cameras that are used, frames, frame rates, sizes."""

TRAIN_SUBJECTS = ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8")
TRAIN_SEQUENCES = ("Seq1", "Seq2")
TEST_SUBJECTS = ("TS1", "TS2", "TS3", "TS4", "TS5", "TS6")

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""Those at the height of a person, of 14."""
NUM_CAMERAS = 14

FRAMES = {
    "S1/Seq1": (6416, 25.0),
    "S1/Seq2": (12430, 50.0),
    "S2/Seq1": (6502, 25.0),
    "S2/Seq2": (6081, 25.0),
    "S3/Seq1": (12488, 50.0),
    "S3/Seq2": (12283, 50.0),
    "S4/Seq1": (6171, 25.0),
    "S4/Seq2": (6675, 25.0),
    "S5/Seq1": (12820, 50.0),
    "S5/Seq2": (12312, 50.0),
    "S6/Seq1": (6188, 25.0),
    "S6/Seq2": (6145, 25.0),
    "S7/Seq1": (6239, 25.0),
    "S7/Seq2": (6320, 25.0),
    "S8/Seq1": (6468, 25.0),
    "S8/Seq2": (6054, 25.0),
}
"""Frames that all cameras have, and frames a second."""

TEST_FRAME_RATE = 25.0
TRAIN_SIZE_PX = (2048, 2048)


def test_size_px(subject: str) -> tuple[int, int]:
    """Width and height. Args: subject: "TS1" to "TS6"; the last two were filmed outdoors by another camera."""
    return (1920, 1080) if subject in ("TS5", "TS6") else (2048, 2048)


def protocol(tested: str, *, joints_3d: str) -> str:
    """One line that stands beside every number."""
    return f"MPI-INF-3DHP, {tested}, valid frames, 17 joints about the pelvis, 3D: {joints_3d}, 2D: ground truth, mean over frames"
