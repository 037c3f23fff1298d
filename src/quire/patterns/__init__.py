"""Regular expressions of people, in Python's notation, run by RE2 in time linear in the text's length.

matching      an expression, many at once, and whether one can be used
translating   from Python's notation to RE2's        charset    sets of characters
alphabet      in which RE2 reads texts               folding    letter case
"""

from quire.patterns.alphabet import encode
from quire.patterns.folding import fold
from quire.patterns.matching import Expression, ExpressionSet, check_notation, check_pattern, compiled

__all__ = ["Expression", "ExpressionSet", "check_notation", "check_pattern", "compiled", "encode", "fold"]
