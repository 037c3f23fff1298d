"""Log-probabilities in OpenAI's two forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import TokenLogprob


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """The form of chat completions: one object for each token, with its alternatives."""
    return {
        "content": [
            {
                **_entry(token.text, token.logprob),
                "top_logprobs": [_entry(text, logprob) for _, text, logprob in token.top],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def completion_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """The form of completions: parallel lists. `offset`: characters of the answer before these tokens."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_alternatives(token) for token in tokens] if any(t.top for t in tokens) else None,
        "text_offset": offsets,
    }


def _entry(text: str, logprob: float) -> dict[str, Any]:
    # A token that is part of a character has no text of its own, and its bytes are not known here.
    known = "\ufffd" not in text
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if known else None}


def _alternatives(token: TokenLogprob) -> dict[str, float]:
    return {text: logprob for _, text, logprob in token.top} | {token.text: token.logprob}
