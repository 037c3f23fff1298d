"""What the learned stages know of each scope, and its bytes: safetensors, whose order of tensors is fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from quire.core import Scope
from quire.errors import RouteTableInvalid
from quire.router import classifier, semantic
from quire.router.classifier import Classifier
from quire.router.postings import Postings
from quire.router.semantic import TextIndex


@dataclass(frozen=True, slots=True)
class Learned:
    """Of the modules of one scope: rows of `classifier` are those with examples, of `text` all of them, in order."""

    classifier: Classifier
    text: TextIndex


def learn(passages: Sequence[Sequence[str]], examples: Sequence[Sequence[str]], outside: Sequence[str]) -> Learned:
    """Train on the modules of one scope: their `passages`, at least one each, and their `examples`, perhaps none.

    `outside`: questions that no module covers.
    """
    return Learned(
        classifier.train([each for each in examples if each], outside),
        semantic.index_passages(passages, examples, outside),
    )


def pack(learned: Mapping[Scope, Learned]) -> bytes:
    """The bytes of all scopes. The same input gives the same bytes."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for scope, one in learned.items():
        arrays |= one.classifier.postings.arrays(f"{scope}/classifier")
        arrays[f"{scope}/classifier.coefficients"] = one.classifier.coefficients
        arrays |= one.text.postings.arrays(f"{scope}/text")
        arrays[f"{scope}/text.first"] = one.text.first
        arrays[f"{scope}/text.coefficients"] = one.text.coefficients
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def unpack(data: bytes, scopes: Sequence[Scope]) -> dict[Scope, Learned]:
    """What `pack` packed, of `scopes`. Raises RouteTableInvalid."""
    try:
        arrays = load(data)
        return {scope: _of_arrays(arrays, scope) for scope in scopes}
    except (SafetensorError, KeyError, IndexError, ValueError, TypeError) as error:
        raise RouteTableInvalid(
            f"the route table's weights do not read as such: {error}", hint="run `quire route build`"
        ) from error


def _of_arrays(arrays: Mapping[str, npt.NDArray[np.generic]], scope: Scope) -> Learned:
    by, text = f"{scope}/classifier", f"{scope}/text"
    return Learned(
        Classifier(Postings.of_arrays(arrays, by), arrays[f"{by}.coefficients"].view(np.float64)),
        TextIndex(
            Postings.of_arrays(arrays, text),
            arrays[f"{text}.first"].view(np.int64),
            arrays[f"{text}.coefficients"].view(np.float64),
        ),
    )
