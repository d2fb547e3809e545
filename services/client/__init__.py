"""Warren from Python: `fit` and `predict` on the daemons' own jobs, for notebooks and scripts (docs/python.md)."""

from services.client.business import BusinessClient, Detached, JobEnded, Training
from services.client.estimator import JointEstimator
from services.client.rehearsal import rehearsal
from services.client.results import Evaluated, Iteration, OfClass, Scores, Stopping, TrainedModel

__all__ = [
    "BusinessClient",
    "Detached",
    "Evaluated",
    "Iteration",
    "JobEnded",
    "JointEstimator",
    "OfClass",
    "Scores",
    "Stopping",
    "TrainedModel",
    "Training",
    "rehearsal",
]
