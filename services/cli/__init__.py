"""The command line. Exit codes: 0 done; 1 the job failed; 2 bad input or configuration; 3 the partner, the
broker or the daemon cannot be reached; 4 cancelled; 5 declined; 130 interrupted.
"""

import os
import sys
from typing import Annotated

import typer

from services import __version__
from services.cli import (
    audits,
    benches,
    brokers,
    certificates,
    consent,
    daemons,
    figures,
    identities,
    locals_,
    models,
    predict,
)
