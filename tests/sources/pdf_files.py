"""PDF files written by hand: the smallest that PDFium reads."""

from __future__ import annotations


def pdf(*pages: str, title: str = "", encrypted: bool = False) -> bytes:
    """A PDF with one line of Helvetica per line of each page; "" is a page without text."""
    numbers = [5 + 2 * i for i in range(len(pages))]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{n} 0 R' for n in numbers)}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({title}) >>".encode(),
    ]
    for number, page in zip(numbers, pages, strict=True):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {number + 1} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(_stream(page))
    trailer = "/Root 1 0 R /Info 4 0 R"
    if encrypted:
        # Made-up password entries: the empty password does not fit them, as with any PDF that asks for one.
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <" + b"5a" * 32 + b"> /U <" + b"a5" * 32 + b"> >>")
        trailer += f" /Encrypt {len(objects)} 0 R /ID [<00> <00>]"
    return _file(objects, trailer)


def _stream(page: str) -> bytes:
    lines = " ".join(f"({line}) Tj 0 -20 Td" for line in page.split("\n"))
    content = f"BT /F1 12 Tf 72 720 Td {lines} ET" if page else "0 0 10 10 re f"
    return f"<< /Length {len(content)} >>\nstream\n{content}\nendstream".encode()


def _file(objects: list[bytes], trailer: str) -> bytes:
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n"
    end += f"<< /Size {len(objects) + 1} {trailer} >>\nstartxref\n{len(out)}\n%%EOF\n"
    return bytes(out + end.encode())
