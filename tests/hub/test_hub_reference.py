"""What a visitor may call a LoRA on the Hub, and what is refused as a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsdemo.errors import WsdemoError
from wsdemo.hub.reference import parse_reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", ("a/b", None, None)),
        (" a/b@main ", ("a/b", "main", None)),
        ("a/b@v1.0:sub/x.safetensors", ("a/b", "v1.0", "sub/x.safetensors")),
        ("a/b:x.safetensors", ("a/b", None, "x.safetensors")),
        ("https://huggingface.co/a/b", ("a/b", None, None)),
        ("https://huggingface.co/a/b/tree/main", ("a/b", "main", None)),
        ("https://huggingface.co/a/b/tree/main/sub", ("a/b", "main", None)),
        ("https://huggingface.co/a/b/blob/main/x%20y.st", ("a/b", "main", "x y.st")),
        ("https://hf.co/a/b/resolve/abc/x.st?download=true", ("a/b", "abc", "x.st")),
    ],
)  # fmt: skip
def test_references_and_addresses_are_understood(text, expected):
    found = parse_reference(text)
    assert (found.repo, found.revision, found.path) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/b/c", "a b/c", "../etc/passwd", "a/b:../../x", "a/b:/etc/passwd", "file:///etc",
     "https://example.com/a/b", "https://huggingface.co.evil.com/a/b", "http://127.0.0.1/a/b",
     "ftp://huggingface.co/a/b", "https://huggingface.co/a", "a/b@x;rm:y", "https://[bad/a/b"],
)  # fmt: skip
def test_everything_else_is_refused(text):
    with pytest.raises(WsdemoError):
        parse_reference(text)


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail_otherwise(text):
    try:
        found = parse_reference(text)
    except WsdemoError:
        return
    assert ".." not in found.repo
    assert found.repo.count("/") == 1
