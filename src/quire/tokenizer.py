"""Text to token ids and back, with a wall between a layout's markers and everybody else's words."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, TemplateSyntaxError

from quire.allocator import give_back
from quire.errors import LayoutMalformed

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence


FIXED_DATE = "26 Jul 2024"  # what Llama 3's own template falls back on
KNOWN_MARKERS = 1024  # texts of layouts whose ids are kept
LONG = 1 << 16  # characters: texts from here on are tokenized one at a time, which takes hundreds of bytes a character
COMPOSED = 4  # most characters that a canonical composition makes one
# Parts of tokenizers that drop no character: each leaves as many as there were, or more.
KEEPING = {"ByteLevel", "Digits", "Lowercase", "Metaspace", "NFD", "NFKD", "Prepend"}
MARKUP = re.compile(r"[^\w\s].*[^\w\s]", re.DOTALL)  # an added token that looks like a marker: <think>, [INST]


class TextTokenizer:
    """A model's tokenizer, used segment by segment: no special tokens are added, nothing crosses a boundary.

    Thread-safe.
    """

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._turns = Turns()  # a call sets what the library's tokenizer does with control tokens
        self._long = threading.Lock()
        self._markers: dict[str, list[int]] = {}
        self._controls = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if len(token.content) > 1 and (token.special or MARKUP.fullmatch(token.content))
        }
        self.eos_ids = eos_ids
        self.chat_template: str | None = tokenizer.chat_template

    @property
    def definition(self) -> str | None:
        """All that the library `tokenizers` needs to give the same ids; None for one that it does not do."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else str(backend.to_str())

    def markers(self, text: str) -> list[int]:
        """Token ids of a layout's own text, in which ``<|im_start|>`` and the like are control tokens."""
        if (known := self._markers.get(text)) is None:
            known = self._encode(text, literal=False)
            if len(self._markers) < KNOWN_MARKERS:
                self._markers[text] = known
        return list(known)

    def words(self, text: str) -> list[int]:
        """Token ids of a document's or user's text, in which nothing is a control token.

        Libraries know two kinds of control tokens and can switch off one: ``<think>`` is often of the other. A text
        that names one is tokenized in pieces that end inside the name.
        """
        ids = self._encode(text, literal=True)
        named = {self._controls[i] for i in ids if i in self._controls}
        if not named:
            return ids
        inside = "|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in sorted(named))
        pieces = re.split(inside, text)
        if len(pieces) == 1:  # the library's own normalization made the name
            pieces = [text[: len(text) // 2], text[len(text) // 2 :]] if len(text) > 1 else []
        return [token for piece in pieces for token in self.words(piece)]

    @cached_property
    def longest(self) -> int | None:
        """Most characters of a text that one token of `words` stands for; None: that is not known.

        A byte-level token of n bytes stands for up to n characters. What drops characters, such as a tokenizer that
        has one token for all unknown words, has no such bound.
        """
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None or type(backend.model).__name__ != "BPE":
            return None
        parts = [*_parts(backend.normalizer), *_parts(backend.pre_tokenizer)]
        knows_all = backend.model.byte_fallback or any(part["type"] == "ByteLevel" for part in parts)
        strips = any(t.lstrip or t.rstrip for t in self._tokenizer.added_tokens_decoder.values() if not t.special)
        if strips or not (knows_all and all(map(_keeps_characters, parts))):
            return None
        composes = any(part["type"] in {"NFC", "NFKC"} for part in parts)
        return max(map(len, backend.get_vocab())) * (COMPOSED if composes else 1)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, control tokens left out; incomplete UTF-8 shows as U+FFFD."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def piece(self, token_id: int) -> str:
        """Text of one token, control tokens by name."""
        text: str = self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        return text

    @property
    def start_marker(self) -> str:
        """Text of the token that opens every sequence, or "" for a model without one."""
        begins = self._tokenizer.bos_token_id
        with self._turns.of(object()):
            opening = self._tokenizer("a", verbose=False)["input_ids"][:1]
        return "" if begins is None or begins not in opening else str(self._tokenizer.bos_token)

    def render_chat(self, messages: list[dict[str, str]]) -> str | None:
        """The model's own chat template applied to `messages` with the opening of an answer, as text.

        None when the template refuses these roles. Templates that print the date get a fixed one: a static segment
        must not change from day to day.

        Raises:
            LayoutMalformed: the template is broken.
        """
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, strftime_now=lambda _: FIXED_DATE
            )
        except TemplateSyntaxError as error:
            raise _broken(error) from error
        except TemplateError:
            return None
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise _broken(error) from error
        return text

    def _encode(self, text: str, *, literal: bool) -> list[int]:
        if not text:
            return []
        if len(text) < LONG:
            return self._ids(text, literal=literal)
        with self._long:
            ids = self._ids(text, literal=literal)
            give_back()
        return ids

    def _ids(self, text: str, *, literal: bool) -> list[int]:
        # Only the library `tokenizers` may be called by several threads at once.
        is_parallel = hasattr(self._tokenizer, "backend_tokenizer")
        with self._turns.of(literal if is_parallel else object()):
            ids: list[int] = self._tokenizer(
                text, add_special_tokens=False, split_special_tokens=literal, verbose=False
            )["input_ids"]
        return ids


class Turns:
    """Lets calls of one kind run together, and calls of two kinds one after the other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kind: Hashable = None
        self._running = 0

    @contextmanager
    def of(self, kind: Hashable) -> Iterator[None]:
        """Within it all calls are of this kind."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running or self._kind == kind)
            self._kind = kind
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


def _parts(component: Any) -> list[dict[str, Any]]:
    """What a normalizer or pre-tokenizer of the library consists of, each with its `type`."""
    if component is None:
        return []
    definition: dict[str, Any] = json.loads(component.__getstate__())
    if definition["type"] != "Sequence":
        return [definition]
    return list(definition.get("normalizers") or definition.get("pretokenizers") or [])


def _keeps_characters(part: dict[str, Any]) -> bool:
    """Whether a part of a tokenizer drops no character but by canonical composition."""
    if part["type"] in {"Split", "Punctuation"}:
        return bool(part["behavior"] != "Removed")
    if part["type"] == "Replace":
        return "String" in part["pattern"] and len(part["content"]) >= len(part["pattern"]["String"])
    return part["type"] in {*KEEPING, "NFC", "NFKC"}


def _broken(error: Exception) -> LayoutMalformed:
    return LayoutMalformed(
        f"the model's chat template does not work: {error}",
        hint="write a layout file and name it in quire.toml as layout.file",
    )


class Encoder:
    """What `TextTokenizer` asks of transformers' tokenizers for ids, from the library `tokenizers` alone.

    Importing transformers takes seconds, which who only counts need not wait for.
    """

    chat_template = None

    def __init__(self, definition: str) -> None:
        """`definition`: that of a `TextTokenizer`. Raises ValueError for anything else."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(definition)
        except Exception as error:  # its parser raises the base of all
            raise ValueError(str(error)) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.added_tokens_decoder = self._tokenizer.get_added_tokens_decoder()

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> dict[str, list[int]]:
        self._tokenizer.encode_special_tokens = split_special_tokens
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}
