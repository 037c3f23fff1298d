"""Requests that cannot be meant, refused by name before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.core import Sampling
from quire.errors import InvalidRequest, ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_LOGPROBS = 20
MOST_STOPS = 4
LONGEST_STOP = 1024  # characters
MOST_BIASES = 1024  # tokens: each step adds them to the scores of its request
LEAST_TEMPERATURE = 1e-6  # below, dividing by it leaves the range of float32
REAL = ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
WHOLE = ("top_k", "seed", "logprobs", "max_tokens")


def check_sampling(sampling: Sampling, vocabulary: int) -> None:
    """Refuse what cannot be meant.

    Raises:
        InvalidRequest: naming the parameter and its bounds.
    """
    _check_types(sampling)
    bounds: list[tuple[str, float, float, float]] = [
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_k", sampling.top_k, 0, vocabulary),
        ("top_p", sampling.top_p, 1e-6, 1.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("repetition_penalty", sampling.repetition_penalty, 1e-3, 100.0),
        ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
        ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
        ("logprobs", sampling.logprobs or 0, 0, MOST_LOGPROBS),
    ]
    for token, bias in sampling.logit_bias:
        bounds += [
            ("logit_bias token", token, 0, vocabulary - 1),
            (f"logit_bias of token {_number(token)}", bias, -100, 100),
        ]
    if sampling.max_tokens is not None:
        bounds.append(("max_tokens", sampling.max_tokens, 1, float("inf")))
    for name, value, low, high in bounds:
        if not low <= value <= high:
            raise InvalidRequest(
                f"{name} must be between {_number(low)} and {_number(high)}, found {_number(value)}",
                hint=f"change {name}",
                param=name.split()[0],
            )
    if any(not s for s in sampling.stop):
        raise InvalidRequest("a stop string is empty", hint="leave it out", param="stop")
    if (longest := max(map(len, sampling.stop), default=0)) > LONGEST_STOP:
        raise InvalidRequest(
            f"stop: a stop string must have at most {LONGEST_STOP:,} characters, found {longest:,}",
            hint="shorten it",
            param="stop",
        )
    if 0.0 < sampling.temperature < LEAST_TEMPERATURE:
        raise InvalidRequest(
            f"temperature must be 0 or at least {LEAST_TEMPERATURE:g}, found {sampling.temperature:g}",
            hint="0 always takes the likeliest token",
            param="temperature",
        )


def _number(value: float) -> str:
    """`value` for a message, without an exponent unless it is very large or small."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a very large number"
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def _check_types(sampling: Sampling) -> None:
    def check(name: str, value: object, kinds: tuple[type, ...], expected: str) -> None:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise InvalidRequest(
                f"{name} must be {expected}, found {value!r:.90}", hint=f"change {name}", param=name.split()[0]
            )

    for name in REAL:
        check(name, getattr(sampling, name), (int, float), "a number")
    for name in WHOLE:
        if getattr(sampling, name) is not None:
            check(name, getattr(sampling, name), (int,), "an integer")
    check("stop", sampling.stop, (tuple, list), "a sequence of texts")
    _check_count("stop", len(sampling.stop), MOST_STOPS)
    for text in sampling.stop:
        check("stop", text, (str,), "a sequence of texts")
    check("logit_bias", sampling.logit_bias, (tuple, list), "a sequence of pairs of token id and bias")
    _check_count("logit_bias", len(sampling.logit_bias), MOST_BIASES)
    for pair in sampling.logit_bias:
        check("logit_bias", pair, (tuple, list), "a sequence of pairs of token id and bias")
        if len(pair) != 2:
            raise InvalidRequest(
                f"logit_bias must have pairs, found {pair!r:.90}", hint="give (token id, bias)", param="logit_bias"
            )
        check("logit_bias token", pair[0], (int,), "an integer")
        check("logit_bias", pair[1], (int, float), "a number")


def _check_count(name: str, found: int, most: int) -> None:
    if found > most:
        raise InvalidRequest(f"{name} must have at most {most:,} items, found {found:,}", hint="send fewer", param=name)


def check_suffix(token_ids: Sequence[int], vocabulary: int) -> None:
    """Raises InvalidRequest for nothing to compute, ModelMismatch for a token that the model does not have."""
    if not token_ids:
        raise InvalidRequest("the question has no tokens", hint="send some text")
    if (largest := max(token_ids)) >= vocabulary:
        raise ModelMismatch(
            f"the tokenizer gives token {largest}, the model has {vocabulary} tokens",
            hint="the model directory holds the tokenizer of another model",
        )
