"""From a question to a running answer."""

from quire.answering.answers import Answer, Answerer, Prepared, Question

__all__ = ["Answer", "Answerer", "Prepared", "Question"]
