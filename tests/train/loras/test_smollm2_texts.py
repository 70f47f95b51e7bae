"""Every format of a source is read to its text; a missing source is named."""

import gzip
import json
import re
import struct
import zlib
from pathlib import Path

import pytest

from wsdemo.errors import WsdemoError
from wsdemo.train.loras import smollm2_texts as texts


def test_a_gzipped_file_and_a_plain_one_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.dict.dz").write_bytes(gzip.compress("één woord".encode()))
    (tmp_path / "b.txt").write_text("another", encoding="utf-8")
    assert texts.plain([tmp_path / "a.dict.dz", tmp_path / "b.txt"]) == "één woord\nanother"


def test_html_loses_its_tags_and_scripts_and_keeps_its_words() -> None:
    page = "<head><title>x</title></head><p>a &amp; b<script>if (1 < 2) {}</script></p><p>c"
    assert texts.without_tags(page).split() == ["a", "&", "b", "c"]


def test_a_sword_module_is_its_blocks_in_order(tmp_path: Path) -> None:
    for testament, verses in (("ot", ["In the <w>beginning</w>", " was"]), ("nt", [" the end"])):
        blocks = [zlib.compress(v.encode()) for v in verses]
        offsets = [sum(map(len, blocks[:i])) for i in range(len(blocks))]
        index = [struct.pack("<III", o, len(b), 9) for o, b in zip(offsets, blocks, strict=True)]
        (tmp_path / f"{testament}.bzz").write_bytes(b"".join(blocks))
        (tmp_path / f"{testament}.bzs").write_bytes(b"".join(index))
    assert texts.sword_books(tmp_path).split() == ["In", "the", "beginning", "was", "the", "end"]


def test_the_strings_of_r_data_are_found_in_order(tmp_path: Path) -> None:
    lines = ["It is a truth", "", "universally acknowledged"]
    body = b"X\n" + b"".join(
        struct.pack(">II", 0x00040009, len(line)) + line.encode() for line in lines
    )
    path = tmp_path / "Rdata.rdb"
    path.write_bytes((struct.pack(">I", len(body)) + zlib.compress(body)) * 2)
    assert texts.r_strings(path) == "\n".join(lines * 2)


def test_comments_of_manual_pages_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "man1").mkdir()
    page = '.\\" a comment\n.SH NAME\nls \\- list\n\'\\" t\n'
    (tmp_path / "man1/ls.1.gz").write_bytes(gzip.compress(page.encode()))
    assert texts.manual_pages(tmp_path) == ".SH NAME\nls \\- list\n"


def test_scenarios_give_what_is_said_over_several_lines(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text('id=x\nmessage= _ "To arms!\nNow!"\nname= _ "Konrad"\n')
    assert texts.spoken([tmp_path / "a.cfg"]) == "To arms!\nNow!"


def test_questions_carry_their_right_answer(tmp_path: Path) -> None:
    rows = [
        {"context": "A and B.", "question": "Who?", "choices": ["A", "B", "C"], "label": 1},
        {"question": "2 + 2?", "answer": "4"},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert texts.questions(tmp_path / "q.jsonl") == ["A and B. Who? B", "2 + 2? 4"]


def test_a_missing_source_is_named_and_nothing_is_written_for_it(tmp_path: Path) -> None:
    with pytest.raises(WsdemoError, match=re.compile("austen.*Rdata", re.DOTALL)):
        texts.write_texts(tmp_path, tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
