"""Text to token ids and back, with a wall between a layout's markers and everybody else's words."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, TemplateSyntaxError

from quire.errors import LayoutMalformed

if TYPE_CHECKING:
    from collections.abc import Sequence


FIXED_DATE = "26 Jul 2024"  # what Llama 3's own template falls back on
MARKUP = re.compile(r"[^\w\s].*[^\w\s]", re.DOTALL)  # an added token that looks like a marker: <think>, [INST]


class TextTokenizer:
    """A model's tokenizer, used segment by segment: no special tokens are added, nothing crosses a boundary.

    Thread-safe.
    """

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # each call sets what the library's tokenizer does with control tokens
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
        return self._encode(text, literal=False)

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
            pieces = list(text) if len(text) > 1 else []
        return [token for piece in pieces for token in self.words(piece)]

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
        with self._lock:
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
        with self._lock:
            ids: list[int] = self._tokenizer(
                text, add_special_tokens=False, split_special_tokens=literal, verbose=False
            )["input_ids"]
        return ids


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
