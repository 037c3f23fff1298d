"""The nouns that two or more packages exchange. Frozen, small, without behaviour beyond their own shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

ScopeKind = Literal["public", "tenant", "workspace", "user"]
State = Literal["candidate", "live", "retired", "revoked"]
Stage = Literal["explicit", "rule", "classifier", "semantic", "fallback"]
FinishReason = Literal["stop", "length", "repetition", "cancelled"]
WhenStale = Literal["serve", "fallback", "refuse"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Who may read a module. `owner` is "" for public, else `tenant`, `tenant/workspace` or `tenant/user`."""

    kind: ScopeKind
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.owner}" if self.owner else self.kind


@dataclass(frozen=True, slots=True)
class ModuleRef:
    """One version of one module. `version` is the first twelve hex digits of its key."""

    module_id: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.module_id}@{self.version}"


@dataclass(frozen=True, slots=True)
class KVGeometry:
    """The shape of a model's KV: per layer one K and one V of [kv_heads, tokens, head_dim]."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: str  # "bfloat16" | "float16" | "float32"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 4 if self.dtype == "float32" else 2

    @property
    def bytes_per_token(self) -> int:
        """2 x layers x kv_heads x head_dim x itemsize."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.itemsize


class LayerGate(Protocol):
    """What stands between the reader of a segment and layers that are still on their way to the device."""

    def wait(self, layer: int) -> None:
        """Let nothing that is computed after this call read `layer`, or one before it, too early. May block."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class KVSegment:
    """KV of one segment, wherever its bytes lie. `keys[i]`, `values[i]`: [kv_heads, tokens, head_dim] of layer i.

    Keys carry their rotary positions `position_start .. position_start + token_count - 1`. `gate`: to be asked before
    a layer is read; None where all of them are there. Equal only to itself: another one lies elsewhere.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    position_start: int
    token_count: int
    gate: LayerGate | None = None

    @property
    def position_end(self) -> int:
        return self.position_start + self.token_count


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What leads to a module, as declared in `[modules.NAME.route]`; docs/routing.md says how it is used."""

    keywords: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()  # metadata that a request must carry, by name, for the rules
    priority: int = 0
    intents: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    metadata: tuple[tuple[str, tuple[str, ...]], ...] = ()  # that lead here by themselves
    examples: tuple[str, ...] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """A module as declared: in quire.toml, or by the arguments of `quire compile`."""

    module_id: str
    sources: tuple[str, ...]  # paths or glob patterns, relative to the project
    parent: str | None
    title: str
    tenant: str
    scope: Scope
    route: RouteSpec = RouteSpec()
    ttl_seconds: int = 0  # after it was built or renewed; 0: it does not expire
    stale: WhenStale = "serve"  # what it does while it is stale
    golden: tuple[str, ...] = ()  # files of golden tests, relative to the project


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, before the layout gives it its markers."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A module that a stage considered. Scores of one stage compare with one another only."""

    module_id: str
    stage: Stage
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the router decides: the module that answers, and why. Its chain is the module after its ancestors."""

    module_id: str  # "" for the fallback: no module answers
    stage: Stage
    reason: str
    confidence: float
    candidates: tuple[Candidate, ...] = ()
    passed: tuple[str, ...] = ()  # the stages before this one, and why each did not decide
    version: str | None = None  # None: the live one
    table: str = ""  # digest of the route table that decided


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The defaults are greedy. Fields as in the OpenAI API and transformers."""

    temperature: float = 0.0
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    logprobs: int | None = None  # None: off; n: the chosen token and the n likeliest
    max_tokens: int | None = None  # None: engine.answer_tokens, or as many as the context holds
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probability of one emitted token, before temperature, with the likeliest alternatives."""

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer as it is generated. The last one has a finish reason."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request. `cached` of the `prompt` tokens were not computed for it."""

    prompt: int
    cached: int
    completion: int
