"""Regular expressions of people: read by their shape before they run.

runaway    what may take exponential time is refused
folding    letter case as `re.IGNORECASE` sees it         tree    what Python's parser makes of an expression
"""

from quire.patterns.folding import fold
from quire.patterns.runaway import check_pattern, runaway
from quire.patterns.tree import REPEATS, Node, tree_of

__all__ = ["REPEATS", "Node", "check_pattern", "fold", "runaway", "tree_of"]
