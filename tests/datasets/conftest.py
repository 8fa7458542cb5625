"""Tests of this folder and of others import `pose_files` from here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
