"""What a module is made of, and whether what is live was made of that. Needs no model in memory, and no PyTorch.

inputs       what goes into a module's key           identity    the model and the layout, remembered between runs
family       parents, children, the order of a build
differences  by which triggers two sets of inputs differ
assessing    every declared module compared with its live version
checkout     what of that one checkout may report to the registry
proving      whether what is live has passed its golden tests as they are now
watching     whether a file that decides it was touched
"""

from quire.staleness.assessing import Assessment, assess, dragged_along
from quire.staleness.checkout import Checkout
from quire.staleness.differences import compare_inputs
from quire.staleness.family import check_scope, in_build_order
from quire.staleness.identity import Identity, Stamps, places_of, recall, recall_tokenizer, remember, stamps_of
from quire.staleness.inputs import inputs_of
from quire.staleness.proving import unproven
from quire.staleness.watching import look, wait_for_change

__all__ = [
    "Assessment",
    "Checkout",
    "Identity",
    "Stamps",
    "assess",
    "check_scope",
    "compare_inputs",
    "dragged_along",
    "in_build_order",
    "inputs_of",
    "look",
    "places_of",
    "recall",
    "recall_tokenizer",
    "remember",
    "stamps_of",
    "unproven",
    "wait_for_change",
]
