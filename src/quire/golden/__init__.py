"""Golden tests: questions with what a right answer says, and what came of asking them.

suite      questions, expectations, allowed failures; one checksum for all
reading    YAML files of a person, with a name for every mistake
judging    an answer against what was expected
runs       the result of a run, as the registry keeps it
overlap    how much two texts say the same
"""

from quire.golden.judging import judge, settle
from quire.golden.overlap import f1
from quire.golden.reading import read_entries, read_file, suite_of
from quire.golden.runs import GoldenRun, Verdict
from quire.golden.suite import Expectation, GoldenFile, GoldenQuestion, Kind, Suite

__all__ = [
    "Expectation",
    "GoldenFile",
    "GoldenQuestion",
    "GoldenRun",
    "Kind",
    "Suite",
    "Verdict",
    "f1",
    "judge",
    "read_entries",
    "read_file",
    "settle",
    "suite_of",
]
