"""From a question to a running answer."""

from quire.answering.answers import Answer, Answerer
from quire.answering.comparing import Comparing
from quire.answering.finding import find_chain
from quire.answering.fitting import Fitting
from quire.answering.questions import NotCovered, Prepared, Question, Told
from quire.answering.recording import Recording
from quire.answering.standing import stale_values
from quire.answering.trying import Trial, try_versions

__all__ = [
    "Answer",
    "Answerer",
    "Comparing",
    "Fitting",
    "NotCovered",
    "Prepared",
    "Question",
    "Recording",
    "Told",
    "Trial",
    "find_chain",
    "stale_values",
    "try_versions",
]
