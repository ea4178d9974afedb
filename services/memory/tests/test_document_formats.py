"""Every format that documents are kept in, and what is no such format."""

from __future__ import annotations

import contextlib
import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pagi_memory.adapters.document_formats import FORMATS, convert
from pagi_memory.domain.errors import UnreadableDocumentError

HTML = """<html><head><title>Tea &amp; more</title><style>p {color: red}</style></head><body>
<script>alert("no")</script><h1>Tea</h1><p>Green tea steeps <b>three</b> minutes.</p>
<h2>Kinds</h2><ul><li>green</li><li>black</li></ul><img src="data:image/png;base64,AAAA">
<table><tr><th>kind</th><th>minutes</th></tr><tr><td>green</td><td>3</td></tr></table></body></html>"""


def text_of(source: str, content: str | bytes, most_chars: int = 100_000) -> str:
    return convert(source, content.encode() if isinstance(content, str) else content, most_chars=most_chars)[0]


def docx(*paragraphs: tuple[str, str]) -> bytes:
    """A Word file with paragraphs of a style."""
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{types}"><Override PartName="/word/document.xml" ContentType="{main}"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="r1" Type="{relation}" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{name}"><w:body>{body}</w:body></w:document>')
    return packed.getvalue()


def pdf(*pages: str) -> bytes:
    """A PDF file with a line of text on each page."""
    count = len(pages)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {count} /Kids [{' '.join(f'{4 + 2 * i} 0 R' for i in range(count))}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET" if text else ""
        resources = "<< /Font << /F1 3 0 R >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {resources} /Contents {5 + 2 * i} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects.append("<< /Title (Tea guide) /Author (Ann) >>")
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size, begin = len(objects) + 1, len(out)
    trailer = f"trailer << /Size {size} /Root 1 0 R /Info {len(objects)} 0 R >>\nstartxref\n{begin}\n%%EOF"
    return out + f"xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


def test_markdown_stays_as_it_is_and_its_front_matter_is_metadata() -> None:
    text = "---\ntitle: Tea\ntags: [green, hot]\nnested: {a: 1}\nempty:\n---\n# Tea\n"
    assert convert("a.md", text.encode(), most_chars=999) == (text, {"title": "Tea", "tags": "green, hot"})
    assert convert("a.md", b"---\nno front matter", most_chars=999) == ("---\nno front matter", {})


def test_json_and_yaml_become_lines_that_say_what_they_belong_to() -> None:
    data = '{"kettle": {"heat": {"max": 90}, "modes": ["slow", "fast"]}, "owner": "Ann", "cups": [{"size": 2}]}'
    text = text_of("a.json", data)
    assert text == "# kettle\n\nheat.max: 90\nmodes: slow, fast\nowner: Ann\n\n# cups\n\n[1].size: 2\n"
    assert (
        text_of("a.yaml", "kettle:\n  heat:\n    max: 90\n  modes: [slow, fast]\nowner: Ann\ncups: [{size: 2}]") == text
    )
    assert "[2].b: 2" in text_of("a.yml", "a: 1\n---\nb: 2\n")


def test_each_row_of_a_table_names_its_columns() -> None:
    assert text_of("a.csv", 'name,says\nRex,"woof, woof"\n\nTom,\n') == "name: Rex; says: woof, woof\nname: Tom\n"
    assert text_of("a.csv", "name;kind\nRex;dog;x\n") == "name: Rex; kind: dog; x\n"
    assert text_of("a.csv", "") == ""


def test_html_becomes_markdown_without_what_nobody_sees() -> None:
    text, metadata = convert("a.html", HTML.encode(), most_chars=9999)
    assert metadata == {"title": "Tea & more"}
    assert text.startswith("# Tea\n\nGreen tea steeps **three** minutes.\n\n## Kinds\n\n- green\n- black\n")
    assert "| green | 3 |" in text
    assert not [unseen for unseen in ("alert", "color", "base64") if unseen in text]


def test_a_word_file_keeps_its_headings() -> None:
    content = docx(("Heading1", "Tea"), ("Normal", "Green tea steeps."), ("Heading2", "Kinds"), ("Normal", "Black."))
    assert text_of("a.docx", content) == "# Tea\n\nGreen tea steeps.\n\n## Kinds\n\nBlack.\n"


def test_a_pdf_keeps_its_pages_and_says_who_wrote_it() -> None:
    text, metadata = convert("a.pdf", pdf("Green tea steeps.", "", "Black tea too."), most_chars=999)
    assert text == "# Page 1\n\nGreen tea steeps.\n\n# Page 3\n\nBlack tea too.\n"
    assert metadata == {"title": "Tea guide", "author": "Ann"}


@pytest.mark.parametrize(
    ("source", "content", "reason"),
    [
        ("a.md", b"\xff\xfe", "not UTF-8"),
        ("a.txt", b"a\0b", "NUL"),
        ("a.json", b'"a\\u0000b"', "NUL"),
        ("a.json", b'{\n"a": tea}', "^it is no JSON: line 2, column 6: Expecting value$"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.yaml", b"a: 1\nb: [1\n", "^it is no YAML: line 3, column 1: expected ',' or ']'"),
        ("a.yaml", b"a: \x01", "^it is no YAML: unacceptable character"),
        ("a.md", b"---\nb: 1\na: b: c\n---\n", "^its front matter is no YAML: line 3, column 5: mapping values"),
        ("a.html", b"<div>" * 50_000 + b"x", "nested too deeply"),
        ("a.docx", b"PK rubbish", "^it is no DOCX file, or a damaged one$"),
        ("a.docx", docx(("Normal", "x" * 201_000_000)), "unpacks to"),
        ("a.pdf", b"%PDF-1.4 rubbish", "cannot be read"),
        ("a.pdf", pdf(""), "holds no text"),
        ("a.txt", b"x" * 1_001, "MAX_DOCUMENT_BYTES"),
    ],
)
def test_what_cannot_be_read_says_why(source: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocumentError, match=reason):
        convert(source, content, most_chars=1_000)


def test_a_yaml_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(UnreadableDocumentError, match="more than"):
        convert("a.yaml", "\n".join(lines).encode(), most_chars=10_000_000)


def test_half_of_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert text_of("a.json", '"a\\ud800b"') == "a?b\n"


@given(suffix=st.sampled_from(sorted(FORMATS)), content=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_content_breaks_a_converter(suffix: str, content: bytes) -> None:
    with contextlib.suppress(UnreadableDocumentError):
        text, _ = convert(f"a{suffix}", content, most_chars=10_000)
        text.encode()
