"""The embedded engine: transformers models in this process, one forward pass for all requests."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from quire.engine.base import Engine, Request
from quire.engine.sampling import check_sampling
from quire.engine.sequence import Running
from quire.errors import ContextExceeded, EngineError, InvalidRequest, ModelMismatch, QuireError
from quire.model import GrowingKV, Row, forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from quire.core import Delta
    from quire.model import LoadedModel

log = logging.getLogger(__name__)


class LocalEngine(Engine):
    """Shares each module's KV between all requests on it; a request owns its suffix only."""

    def __init__(self, model: LoadedModel, *, step_tokens: int) -> None:
        """`step_tokens`: most new tokens of one pass, so that a long question delays others by a bounded time."""
        self._model = model
        self._step_tokens = step_tokens

    def admit(self, request: Request) -> Running:
        check_sampling(request.sampling, self._model.vocabulary)
        check_suffix(request.suffix_ids, self._model.vocabulary)
        used = request.lease.segments[-1].position_end + len(request.suffix_ids)
        room = self._model.max_positions - used
        wanted = request.sampling.max_tokens
        if room < (wanted or 1):
            raise ContextExceeded(
                f"chain and question take {used} of the model's {self._model.max_positions} positions, "
                f"which leaves {max(room, 0)} for the answer, not {wanted or 1}",
                hint="shorten the conversation or lower max_tokens",
            )
        return Running(request, self._model.geometry, self._model.tokenizer, wanted or room)

    def step(self, running: Sequence[Running]) -> list[tuple[Running, Delta | QuireError]]:
        rows, takers = [], []
        budget = self._step_tokens
        for sequence in sorted(running, key=lambda r: len(r.pending) > 1):  # answers go on before questions begin
            count = min(len(sequence.pending), budget)
            if count == 0:
                continue
            budget -= count
            rows.append(Row(sequence.request.lease.segments, sequence.kv, sequence.pending[:count]))
            takers.append(sequence)
        logits = forward(self._model, rows)
        visible: list[tuple[Running, Delta | QuireError]] = []
        for row, sequence, scores in zip(rows, takers, logits, strict=True):
            sequence.computed(list(row.token_ids))
            if not sequence.pending:
                visible.append((sequence, _advance(sequence, scores)))
        return visible

    def end(self, running: Running) -> None:
        if not running.ended:
            running.ended = True
            running.remember()
            if running.session:
                running.session.release()
            running.session = None
            running.request.lease.release()
            running.kv = GrowingKV(self._model.geometry)  # whoever keeps the answer must not keep its KV


def check_suffix(token_ids: Sequence[int], vocabulary: int) -> None:
    """Raises InvalidRequest for nothing to compute, ModelMismatch for a token that the model does not have."""
    if not token_ids:
        raise InvalidRequest("the question has no tokens", hint="send some text")
    if (largest := max(token_ids)) >= vocabulary:
        raise ModelMismatch(
            f"the tokenizer gives token {largest}, the model has {vocabulary} tokens",
            hint="the model directory holds the tokenizer of another model",
        )


def _advance(sequence: Running, scores: torch.Tensor) -> Delta | QuireError:
    """Choose the next token; what goes wrong with one request's choice must not end the others."""
    try:
        return sequence.advance(scores)
    except QuireError as error:
        return error
    except Exception as error:
        log.exception("a token could not be chosen")
        return EngineError(f"generation failed: {error}", hint="the log has the details")
