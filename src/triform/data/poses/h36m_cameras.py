"""Human3.6M's four cameras, calibrated for each of its eleven subjects: `h36m_cameras.json`, which names its source."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from triform.errors import DataError
from triform.geometry.camera import Camera

CAMERA_NAMES = ("54138969", "55011271", "58860488", "60457274")
"""In the order of VideoPose3D's lists of views."""
FRAME_RATE = 50.0


@cache
def camera_table() -> dict[str, Any]:
    """The file as it is: `cameras` by name, `extrinsics` by subject and name, and a point with its pixel to `check` a projection by."""
    table: dict[str, Any] = json.loads(Path(__file__).with_name("h36m_cameras.json").read_text("utf-8"))
    return table


def h36m_camera(subject: str, name: str) -> Camera:
    """Args: subject: "S1" to "S11". name: Of the camera, such as "54138969". Raises: DataError: There is no such subject or camera."""
    table = camera_table()
    for what, wanted, known in (("camera", name, table["cameras"]), ("subject", subject, table["extrinsics"])):
        if wanted not in known:
            raise DataError(f'Human3.6M has no {what} "{wanted}"', expected=f"one of {', '.join(known)}", do="correct the file's names")
    inner, outer = table["cameras"][name], table["extrinsics"][subject][name]
    plain: dict[str, Any] = {key: tuple(inner[key]) for key in ("size_px", "focal_px", "center_px", "radial", "tangential")}
    return Camera(**plain, rotation=np.array(outer["R"]), translation_mm=np.array(outer["t_mm"]))


def up_in(camera: Camera) -> Float[np.ndarray, " 3"]:
    """Human3.6M's up direction, its world's z, in the camera's frame."""
    return np.array(camera.rotation[:, 2])
