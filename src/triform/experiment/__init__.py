"""A whole run as one typed tree: read from a file, checked at one gate, described, digested."""

from triform.experiment.checks import monitor
from triform.experiment.describe import Row, describe, fingerprint, resolved, to_yaml
from triform.experiment.gate import data_of, from_resolved
from triform.experiment.loading import Loaded, load
from triform.experiment.schema import schema
from triform.experiment.tree import Data, Experiment, Task

__all__ = [
    "Data",
    "Experiment",
    "Loaded",
    "Row",
    "Task",
    "data_of",
    "describe",
    "fingerprint",
    "from_resolved",
    "load",
    "monitor",
    "resolved",
    "schema",
    "to_yaml",
]
