"""HTML as the markdown of what a visitor reads: no scripts, styles, navigation or hidden elements."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from quire.errors import SourceMalformed
from quire.sources.canonical import one_line, without_controls
from quire.sources.document import Extract
from quire.sources.opening import decode

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

# Elements whose end tag may be left out, and the open ones that such a start tag closes (HTML, section 13.1.2.4).
_CLOSES = {
    "li": {"li", "p"},
    "p": {"p"},
    "dt": {"dt", "dd", "p"},
    "dd": {"dt", "dd", "p"},
    "tr": {"tr", "td", "th", "p"},
    "td": {"td", "th", "p"},
    "th": {"td", "th", "p"},
    "option": {"option"},
}

# Conversion recurses about three frames a level; deeper pages are mostly unclosed tags.
MAX_DEPTH = 200

_DROPPED = "script, style, nav, noscript, template, svg, iframe, canvas, head, [hidden], [aria-hidden=true]"
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def read_html(data: bytes, name: str) -> Extract:
    """The page's <main> if it has exactly one, else its body, as markdown; an image gives its alt text.

    Raises SourceNotText, or SourceMalformed for markup that does not parse or is nested beyond MAX_DEPTH.
    """
    soup = _parsed(decode(data, name), name)
    title = _title(soup)
    _drop_unseen(soup)
    mains = soup.find_all("main")
    root = mains[0] if len(mains) == 1 else soup.body or soup
    _require_shallow(root, name)
    try:
        return Extract(without_controls(_markdown(root)), "html", title)
    except ValueError as error:
        raise SourceMalformed(
            f"{name}: expected HTML whose list numbers and table spans are numbers, found others: {error}"
        ) from error


def _parsed(text: str, name: str) -> BeautifulSoup:
    # Imported here: a command that reads no HTML should not pay for the parser.
    from bs4 import BeautifulSoup
    from bs4.exceptions import ParserRejectedMarkup

    class ImpliedEnds(BeautifulSoup):
        """html.parser leaves `<li>a<li>b` nested; here a start tag ends what it implies to be over."""

        def handle_starttag(self, name: str, *args: Any, **kwargs: Any) -> Tag | None:
            self.endData()
            while self.currentTag is not None and self.currentTag.name in _CLOSES.get(name, ()):
                self.popTag()
            return super().handle_starttag(name, *args, **kwargs)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Beautiful Soup warns of XHTML and of text without a tag
            return ImpliedEnds(text, "html.parser")
    except (ParserRejectedMarkup, ValueError) as error:
        raise SourceMalformed(
            f"{name}: expected HTML, found markup that does not parse: {one_line(str(error))[:120]}",
            hint="check the page with an HTML validator",
        ) from error


def _title(soup: BeautifulSoup) -> str | None:
    found = soup.find("title") or soup.find("h1")
    return one_line(without_controls(found.get_text())) or None if found else None


def _drop_unseen(soup: BeautifulSoup) -> None:
    from bs4.element import PreformattedString

    for element in soup.select(_DROPPED):
        element.extract()
    for element in soup.find_all(style=_HIDDEN):
        element.extract()
    for comment in soup.find_all(string=lambda found: isinstance(found, PreformattedString)):
        comment.extract()
    for image in soup.find_all("img"):
        image.replace_with(one_line(str(image.get("alt") or "")))


def _require_shallow(root: Tag, name: str) -> None:
    from bs4 import Tag

    level: list[Tag] = [root]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in parent.children if isinstance(child, Tag)]
        if not level:
            return
    raise SourceMalformed(
        f"{name}: expected HTML nested at most {MAX_DEPTH} levels deep, found more",
        hint="close the tags that are left open, such as <p>, <li> and <font>",
    )


def _markdown(root: Tag) -> str:
    from markdownify import MarkdownConverter

    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        code_language_callback=_language,
    )
    return str(converter.convert_soup(root))


def _language(element: Tag) -> str:
    """The word after `language-` in the class of a <pre> or of the <code> in it."""
    for tag in (element, element.find("code")):
        for word in (tag.get("class") or []) if tag else []:
            if word.startswith("language-"):
                return one_line(word.removeprefix("language-"))
    return ""
