"""A reproducible companion to "Can Local Representation Alignment RNNs Solve Temporal Tasks?" (arXiv:2504.13531)."""

from lra_companion.config import RunConfig
from lra_companion.network import Batch, Parameters
from lra_companion.store import ResultStore
from lra_companion.sweep import train_many
from lra_companion.training import RunResult, train

__all__ = ["Batch", "Parameters", "ResultStore", "RunConfig", "RunResult", "train", "train_many"]
