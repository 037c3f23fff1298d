"""PDF: the text layer, page by page, as PDFium extracts it."""

from __future__ import annotations

import re
from threading import Lock
from typing import Any

from quire.errors import SourceEmpty, SourceMalformed
from quire.sources.canonical import one_line, without_controls
from quire.sources.document import Extract

_PASSWORD_NEEDED = 4  # FPDF_ERR_PASSWORD, fpdfview.h
_TAIL = 1024  # readers look for %%EOF in the last 1024 bytes (PDF Reference 1.7, appendix H, note 18)

# PDFium marks a hyphen that only breaks a word at the end of a line as U+0002.
_SOFT_HYPHEN = re.compile("[\x02\ufffe][ \t]*\n?")

_pdfium_lock = Lock()  # PDFium is not thread-safe, in any of its functions


def read_pdf(data: bytes, name: str) -> Extract:
    """The text of every page; with more than one, each that has text stands under `## Page n`.

    Raises SourceMalformed for a file that is not PDF, truncated, damaged or encrypted, and SourceEmpty for
    one whose pages hold no text.
    """
    if b"%PDF-" not in data[:_TAIL]:
        raise SourceMalformed(f"{name}: expected PDF, found a file that does not begin with %PDF-")
    if b"%%EOF" not in data[-_TAIL:]:
        raise SourceMalformed(
            f"{name}: expected %%EOF at the end of the PDF, found none; the file is truncated",
            hint="download or export it again",
        )
    with _pdfium_lock:
        pages, title = _extract(data, name)
    if not any(page.strip() for page in pages):
        raise SourceEmpty(
            f"{name}: expected a PDF with text, found {len(pages)} page(s) without text",
            hint="recognize the text first, for example: ocrmypdf in.pdf out.pdf",
        )
    if len(pages) > 1:
        pages = [f"## Page {i}\n\n{page}" for i, page in enumerate(pages, start=1) if page.strip()]
    heading = f"# {title}\n\n" if title else ""
    return Extract(heading + "\n\n".join(pages), "pdf", title)


def _extract(data: bytes, name: str) -> tuple[list[str], str | None]:
    # Imported here: it loads a native library that most commands never call.
    from pypdfium2 import PdfDocument, PdfiumError

    try:
        pdf = PdfDocument(data)
    except PdfiumError as error:
        if error.err_code == _PASSWORD_NEEDED:
            raise SourceMalformed(
                f"{name}: expected a PDF that opens without a password, found an encrypted one",
                hint="decrypt it, for example: qpdf --decrypt --password=... in.pdf out.pdf",
            ) from error
        raise SourceMalformed(f"{name}: expected PDF, found a damaged file: {one_line(str(error))}") from error
    try:
        pages = [_page_text(pdf, number, name) for number in range(len(pdf))]
        title = one_line(without_controls(pdf.get_metadata_value("Title")))
    finally:
        pdf.close()
    return pages, title or None


def _page_text(pdf: Any, number: int, name: str) -> str:
    from pypdfium2 import PdfiumError

    try:
        page = pdf[number]
        try:
            text_page = page.get_textpage()
            try:
                text = str(text_page.get_text_bounded())
            finally:
                text_page.close()
        finally:
            page.close()
    except PdfiumError as error:
        raise SourceMalformed(
            f"{name}: expected {len(pdf)} pages, found page {number + 1} damaged: {one_line(str(error))}"
        ) from error
    return without_controls(_SOFT_HYPHEN.sub("", text.replace("\r\n", "\n")))
