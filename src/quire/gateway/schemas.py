"""What requests may hold. Bounds that belong to the engine are left to it; those here keep values representable."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from quire.core import Sampling, Turn
from quire.engine.refusing import LONGEST_STOP, MOST_BIASES, MOST_STOPS
from quire.router import Hints

MOST_ANSWERS = 16  # of one request
MOST_MESSAGES = 2048
COMPLETION_TOKENS = 16  # the default of OpenAI's completions
MOST_WORKSPACES = 256
MOST_DAYS = 3650
LONGEST_REASON = 500
INT64 = 2**63
INT32 = 2**31
MODULE = r"[a-z0-9][a-z0-9._-]{0,63}(@[0-9a-f]{1,64})?"


class Fields(BaseModel):
    """A JSON object: null in a field means absent, an unknown field is an error, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)
    _empty: ClassVar[frozenset[str]] = frozenset()  # what may be there besides the fields, if it is null

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        may_be_null = cls.model_fields.keys() | cls._empty
        kept = {name: field for name, field in value.items() if field is not None or name not in may_be_null}
        if unknown := kept.keys() - cls.model_fields.keys():  # one is enough for the error
            first = next(name for name in kept if name in unknown)
            kept = {name: field for name, field in kept.items() if name == first or name not in unknown}
        return kept


def _joined_text(content: Any) -> Any:
    """The text of a message's content: a string, or a list of text parts, which become lines."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise PydanticCustomError(
                "part", "only parts of type text are understood, not {kind}", {"kind": str(kind)[:32]}
            )
        if not isinstance(part.get("text"), str):
            raise PydanticCustomError("part", "a text part needs the field text")
        texts.append(part["text"])
    return "\n".join(texts)


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _biases(value: Any) -> Any:
    """``{"50256": -100}`` as pairs of token id and bias."""
    if not isinstance(value, dict):
        return value
    if len(value) > MOST_BIASES:
        raise PydanticCustomError("too_long", "must have at most {most} tokens", {"most": MOST_BIASES})
    if not all(key.isascii() and key.isdecimal() and len(key) < 10 for key in value):
        raise PydanticCustomError("token", "the keys must be token ids")
    return [(int(key), bias) for key, bias in value.items()]


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class Message(Fields):
    _empty = frozenset({"audio", "function_call", "refusal"})  # in an answer that is sent back

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined_text, json_schema_input_type=str | list[TextPart])]
    name: str | None = None  # of the speaker; the layouts of models have no place for it
    # Clients send their assistant's messages back as they came, with these empty.
    annotations: Annotated[list[Any] | None, Field(max_length=0)] = None
    tool_calls: Annotated[list[Any] | None, Field(max_length=0)] = None

    def turn(self) -> Turn:
        return Turn("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(Fields):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against eavesdroppers; there is none to switch off


TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
HintText = Annotated[str, Field(min_length=1, max_length=256)]


class QuireFields(Fields):
    """The `quire` object of a request."""

    module: Annotated[str | None, Field(pattern=f"^{MODULE}$")] = None
    session: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    intent: HintText | None = None
    product: HintText | None = None
    state: HintText | None = None  # of the caller's workflow
    metadata: Annotated[dict[HintText, HintText], Field(max_length=32)] = {}

    @property
    def hints(self) -> Hints:
        """What the router looks at besides the question."""
        return Hints(self.intent, self.product, self.state, tuple(self.metadata.items()))


class AnswerFields(Fields):
    """What both ways of asking have in common. `unsupported` has the fields of OpenAI's that are not here."""

    model: str
    quire: QuireFields = QuireFields()
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[int | None, Field(gt=-INT32, lt=INT32)] = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Annotated[
        list[tuple[int, float]] | None, BeforeValidator(_biases, json_schema_input_type=dict[TokenId, float] | None)
    ] = None
    seed: Annotated[int | None, Field(ge=-INT64, lt=INT64)] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]] | None,
        FailFast(),
        BeforeValidator(_listed, json_schema_input_type=str | list[str] | None),
        Field(max_length=MOST_STOPS),
    ] = None
    max_tokens: Annotated[int | None, Field(ge=1, lt=INT32)] = None
    ignore_eos: bool | None = None

    @field_validator("stream_options")
    @classmethod
    def _only_for_streams(cls, value: StreamOptions, info: ValidationInfo) -> StreamOptions:
        if not info.data.get("stream"):
            raise PydanticCustomError("stream_options", "only a stream has these: set stream to true as well")
        return value

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, **more: Any) -> Sampling:
        """The sampling that was asked for; what was left out has `Sampling`'s own defaults."""
        names = set(Sampling.__dataclass_fields__) - {"logprobs"}
        given = {name: getattr(self, name) for name in self.model_fields_set & names} | more
        for name in {"logit_bias", "stop"} & set(given):
            given[name] = tuple(given[name])
        return Sampling(**{name: value for name, value in given.items() if value is not None})


class ChatFields(AnswerFields):
    messages: Annotated[list[Message], FailFast(), Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int | None, Field(ge=1, lt=INT32)] = None
    logprobs: bool = False
    top_logprobs: Annotated[int | None, Field(ge=0, lt=INT32)] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _agrees(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("max_tokens") not in {None, value}:
            raise PydanticCustomError("max_completion_tokens", "must be the same as max_tokens, or one left out")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, value: int, info: ValidationInfo) -> int:
        if not info.data.get("logprobs"):
            raise PydanticCustomError("top_logprobs", "needs logprobs to be true")
        return value

    @property
    def asked(self) -> Sampling:
        """Without a limit the answer may fill the context."""
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling(max_tokens=self.max_completion_tokens or self.max_tokens, logprobs=logprobs)


class CompletionFields(AnswerFields):
    prompt: Annotated[
        list[str],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=MOST_ANSWERS),
    ]
    logprobs: Annotated[int | None, Field(ge=0, lt=INT32)] = None

    @field_validator("prompt")
    @classmethod
    def _not_too_many(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if len(value) * info.data.get("n", 1) > MOST_ANSWERS:
            raise PydanticCustomError("prompt", "prompts times n must be at most {most}", {"most": MOST_ANSWERS})
        return value

    @property
    def asked(self) -> Sampling:
        """OpenAI's limit where none is given."""
        return self.sampling(max_tokens=self.max_tokens or COMPLETION_TOKENS, logprobs=self.logprobs)


class ExplainFields(Fields):
    question: Annotated[str, Field(min_length=1)]
    quire: QuireFields = QuireFields()


class KeyFields(Fields):
    """A new API key. Names and roles are checked by `access`, which knows what they may be."""

    title: str
    tenant: str | None = None  # the caller's own
    user: str | None = None  # None: a program
    workspaces: Annotated[list[str], Field(max_length=MOST_WORKSPACES)] = []
    roles: Annotated[list[str], Field(max_length=16)] = ["reader"]
    expires_in_days: Annotated[int | None, Field(ge=1, le=MOST_DAYS)] = None  # None: never


class ReasonFields(Fields):
    """A change, and why: it stands in the history, which takes no reason that is blank to `str.strip`."""

    reason: Annotated[str, Field(min_length=1, max_length=LONGEST_REASON, pattern=r"[^\s\x1c-\x1f]")]


class ChangeFields(ReasonFields):
    """A change to a version."""

    version: Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")]


class CanaryFields(ChangeFields):
    """A version beside the live one: a share of the requests, in percent, or in the shadow, or both."""

    percent: Annotated[int, Field(ge=0, le=100)] = 0
    shadow: bool = False

    @model_validator(mode="after")
    def _takes_something(self) -> Self:
        if not (self.percent or self.shadow):
            raise PydanticCustomError("percent", "must be 1 or more, unless shadow is true")
        return self
