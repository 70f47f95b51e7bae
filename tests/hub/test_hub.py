"""The Hub over real HTTP on this machine: what is fetched, what is refused, and how it is said."""

import json
import time

import gradio as gr
import pytest
import torch
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from tests.hub.loopback import COMMIT, Hub
from wsdemo import hub
from wsdemo.checkpoints import DIRECTORY
from wsdemo.cli import main
from wsdemo.errors import WsdemoError
from wsdemo.lora.reader import judge_header, read_lora
from wsdemo.ui import hub_row
from wsdemo.ui.predict_section import use_predictor

CONFIG = {"r": 4, "lora_alpha": 8, "base_model_name_or_path": "acme/base", "peft_type": "LORA"}


def adapter(rank=4, width=32, count=3):
    tensors = {}
    for i in range(count):
        name = f"base_model.model.layers.{i}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width)
        tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank)
    return save(tensors)


@pytest.fixture
def loopback(monkeypatch, tmp_path):
    server = Hub()
    server.files["acme/lora"] = {
        "README.md": b"hi",
        "adapter_config.json": json.dumps(CONFIG).encode(),
        "adapter_model.safetensors": adapter(),
    }
    server.files["acme/many"] = {f"v{i}.safetensors": adapter(rank=i + 1) for i in range(3)}
    server.files["acme/pickle"] = {"pytorch_model.bin": b"x", "README.md": b"hi"}
    server.files["acme/one"] = {"deep/er/x.safetensors": adapter(), "config.json": b"{}"}
    server.card["acme/lora"] = {"base_model": "acme/base"}
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE",
        server.address + "/{repo_id}/resolve/{revision}/{filename}",
    )  # fmt: skip
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.address)
    monkeypatch.setattr(hub, "HUB_SECONDS", 1.0)
    monkeypatch.setenv("WSDEMO_DOWNLOADS", str(tmp_path / "downloads"))
    yield server
    server.close()


def resolved(text, token=None):
    return hub.resolve(hub.parse_reference(text), token)


# ---- references --------------------------------------------------------------------------


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
    found = hub.parse_reference(text)
    assert (found.repo, found.revision, found.path) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/b/c", "a b/c", "../etc/passwd", "a/b:../../x", "a/b:/etc/passwd", "file:///etc",
     "https://example.com/a/b", "https://huggingface.co.evil.com/a/b", "http://127.0.0.1/a/b",
     "ftp://huggingface.co/a/b", "https://huggingface.co/a", "a/b@x;rm:y", "https://[bad/a/b"],
)  # fmt: skip
def test_everything_else_is_refused(text):
    with pytest.raises(WsdemoError):
        hub.parse_reference(text)


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail_otherwise(text):
    try:
        found = hub.parse_reference(text)
    except WsdemoError:
        return
    assert ".." not in found.repo
    assert found.repo.count("/") == 1


# ---- asking -------------------------------------------------------------------------------


def test_a_repository_is_resolved_to_one_commit_and_the_usual_file(loopback):
    found = resolved("acme/lora")
    assert found.commit == COMMIT
    assert found.chosen.path == "adapter_model.safetensors"
    assert found.base_model == "acme/base"
    assert found.configs == ("",)


def test_several_files_are_offered_and_one_can_be_named(loopback):
    found = resolved("acme/many")
    assert found.chosen is None
    assert [c.path for c in found.candidates] == [
        "v0.safetensors",
        "v1.safetensors",
        "v2.safetensors",
    ]
    assert resolved("acme/many:v1.safetensors").chosen.path == "v1.safetensors"
    assert resolved("acme/one").chosen.path == "deep/er/x.safetensors"


def test_a_file_is_found_by_name_among_more_than_a_chooser_shows(loopback):
    loopback.files["acme/heap"] = {f"f{i}.safetensors": adapter(count=1) for i in range(250)}
    assert resolved("acme/heap:f240.safetensors").chosen.path == "f240.safetensors"
    _, chooser, told, _ = hub_row.look("acme/heap", "")
    assert len(chooser.choices) == 200
    assert "It holds 250 files: choose one of the first 200, or name it" in told
    _, chooser, told, _ = hub_row.look("acme/heap:f240.safetensors", "")
    assert chooser.value == "f240.safetensors"
    assert chooser.value in [value for _, value in chooser.choices]


def test_a_header_is_judged_from_few_bytes(loopback):
    loopback.files["acme/big"] = {"x.safetensors": adapter(rank=8, width=4096, count=8)}
    found = resolved("acme/big")
    peek = hub.peek(found, found.chosen)
    assert "8 modules of rank 8" in judge_header(peek.header)
    assert peek.fetched_bytes < len(loopback.files["acme/big"]["x.safetensors"]) / 10


def test_what_holds_no_lora_by_its_header_is_not_downloaded(loopback, capsys):
    body = save({"emb_params": torch.zeros(4096, 768)})
    loopback.files["acme/word"] = {"word.safetensors": body, "b.safetensors": adapter()}
    assert main(["inspect", "acme/word:word.safetensors", "--json"]) == 2
    assert "No LoRA" in capsys.readouterr().out
    repository, _, told, button = hub_row.look("acme/word:word.safetensors", "")
    assert "**No LoRA.**" in told
    assert not button.interactive
    assert hub_row.choose(repository, "b.safetensors", "")[1].interactive
    assert not hub_row.choose(repository, "word.safetensors", "")[1].interactive
    ranges = [h.get("range") or h.get("Range") for p, h in loopback.requests if "/word.s" in p]
    assert ranges
    assert all(ranges)  # the header only


def test_a_server_that_ignores_ranges_is_not_read_to_the_end(loopback):
    loopback.files["acme/big"] = {"x.safetensors": adapter(rank=8, width=4096, count=8)}
    loopback.fault["x.safetensors"] = "no-range"
    found = resolved("acme/big")
    assert len(hub.peek(found, found.chosen).header.tensors) == 16


def test_a_long_header_is_fetched_in_a_second_request(loopback, monkeypatch):
    monkeypatch.setattr(hub, "_FIRST_BYTES", 256)
    found = resolved("acme/lora")
    assert len(hub.peek(found, found.chosen).header.tensors) == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acme/none", "No such repository"),
        ("acme/lora@nope", "No such revision"),
        ("acme/lora:nope.safetensors", "No such file"),
        ("acme/pickle", "No safetensors file"),
    ],
)
def test_what_is_not_there_is_told_apart(loopback, text, said):
    with pytest.raises(WsdemoError) as caught:
        resolved(text)
    assert caught.value.title.startswith(said)
    assert caught.value.hint


def test_a_pickle_gets_the_remedy(loopback):
    with pytest.raises(WsdemoError, match="can run code") as caught:
        resolved("acme/pickle")
    assert "convert" in caught.value.hint


@pytest.mark.parametrize(
    ("fault", "said"),
    [(401, "Token needed"), (403, "Not allowed"), (404, "Not found"), (429, "Too many requests"),
     (500, "The Hub has a problem"), (503, "The Hub has a problem"),
     ("gated", "Access must be granted first"), ("slow", "The Hub does not answer")],
)  # fmt: skip
@pytest.mark.parametrize("where", ["api", "adapter_model.safetensors"])
def test_every_failure_has_a_sentence_and_a_remedy(loopback, fault, said, where):
    loopback.fault[where] = fault
    with pytest.raises(WsdemoError) as caught:
        fetched("acme/lora")
    assert caught.value.title.startswith((said, "No such repository"))
    assert caught.value.hint


def test_a_dead_server_is_told(loopback, monkeypatch):
    found = resolved("acme/lora")
    monkeypatch.setattr(hub, "hf_hub_url", lambda *_, **__: "http://127.0.0.1:9/x")
    with pytest.raises(WsdemoError) as caught:
        hub.peek(found, found.chosen)
    assert caught.value.title in ("No connection to the Hub", "The Hub does not answer")


def test_an_answer_that_makes_no_sense_is_told(loopback):
    loopback.fault["api"] = "nonsense"
    with pytest.raises(WsdemoError, match="not understood"):
        resolved("acme/lora")


def test_offline_mode_asks_nobody(loopback, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WsdemoError, match="HF_HUB_OFFLINE"):
        resolved("acme/lora")
    assert loopback.requests == []


def test_offline_mode_gives_what_was_downloaded_and_says_so(loopback, monkeypatch, capsys):
    loopback.private.add("acme/one")
    for text in ("acme/lora", "acme/many:v1.safetensors", "acme/many:v2.safetensors", "acme/one"):
        fetched(text, "hf_x")
    *_, (_, _, told) = hub_row.fetch(resolved("acme/many:v1.safetensors"), None, "")
    assert told == f"Downloaded 2.2 kB: v1.safetensors, commit {COMMIT[:12]} of acme/many."
    before = len(loopback.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    *_, (_, _, told) = hub_row.fetch(resolved("acme/many:v1.safetensors"), None, "")
    assert told.startswith("Offline, read from the copy on this machine: v1.safetensors, commit")
    assert main(["inspect", f"acme/lora@{COMMIT}", "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["base_model"]["name"] == "acme/base"
    assert "offline: the copy on this machine" in out.err
    assert main(["inspect", "acme/many:v2.safetensors", "--json"]) == 0
    assert "rank 3" in hub_row.look("acme/many:v2.safetensors", "")[2]
    assert len(resolved("acme/many").candidates) == 2  # of three: which one is asked
    assert "Offline, from the copies on this machine" in hub_row.look("acme/many", "")[2]
    for text in ("acme/many:v0.safetensors", "acme/lora@v1", "acme/none"):
        with pytest.raises(WsdemoError, match="no copy of it"):
            resolved(text)
    with pytest.raises(WsdemoError, match="private"):  # the copy may be another visitor's
        resolved("acme/one", "hf_x")
    assert len(loopback.requests) == before


# ---- fetching -------------------------------------------------------------------------------


def fetched(text, token=None):
    found = resolved(text, token)
    return [place for _, place in hub.download(found, found.chosen, token)][-1]


def test_a_download_is_the_file_with_its_scale_beside_it(loopback):
    place = fetched("acme/lora")
    assert place.read_bytes() == loopback.files["acme/lora"]["adapter_model.safetensors"]
    lora = read_lora(place)
    assert lora.modules[0].scale == 2.0
    assert lora.base.name == "acme/base"


def test_the_card_on_the_hub_is_evidence_of_the_base_after_the_configuration(loopback, capsys):
    loopback.files["acme/c"] = {"c.safetensors": adapter()}
    said = "stabilityai/stable-diffusion-xl-base-1.0"
    loopback.card["acme/c"] = {"base_model": [said]}
    assert main(["inspect", "acme/c", "--json"]) == 0
    base = json.loads(capsys.readouterr().out)["base_model"]
    assert base["name"] == said
    assert base["evidence"][0] == {"source": "card on the Hub", "says": said}
    assert base["disagreement"] == "card on the Hub says SDXL, keys and shapes says Llama"
    lora = read_lora(fetched("acme/lora"))
    assert [source for source, _ in lora.base.evidence][:2] == [
        "adapter_config.json",
        "card on the Hub",
    ]


def test_the_resolved_commit_is_in_the_answer(loopback, capsys):
    assert main(["predict", "acme/lora", "--json"]) == 0
    origin = json.loads(capsys.readouterr().out)["origin"]
    assert origin == {"repo": "acme/lora", "commit": COMMIT, "path": "adapter_model.safetensors"}


def test_a_file_whose_name_has_a_space_is_fetched(loopback):
    loopback.files["acme/space"] = {"my lora #1.safetensors": adapter()}
    assert fetched("acme/space").is_file()


def test_a_second_download_comes_from_disk(loopback):
    fetched("acme/lora")
    before = len(loopback.requests)
    fetched("acme/lora")
    assert all("/resolve/" not in path for path, _ in loopback.requests[before:])


def test_a_redirect_is_followed(loopback):
    loopback.fault["adapter_model.safetensors"] = "redirect"
    assert fetched("acme/lora").is_file()


@pytest.mark.parametrize(("fault", "said"), [("cut", "cut off|connection"), ("wrong", "damaged")])
def test_a_body_that_is_not_what_was_promised_leaves_nothing(loopback, fault, said, tmp_path):
    loopback.fault["adapter_model.safetensors"] = fault
    with pytest.raises(WsdemoError, match=f"(?i){said}"):
        fetched("acme/lora")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_web_page_instead_of_the_file_is_named_before_the_download(loopback):
    loopback.fault["adapter_model.safetensors"] = "html"
    found = resolved("acme/lora")
    with pytest.raises(WsdemoError, match="web page"):
        hub.peek(found, found.chosen)


def test_stopping_a_download_leaves_nothing(loopback, tmp_path):
    loopback.files["acme/big"] = {"x.safetensors": adapter(rank=64, width=8192, count=8)}
    found = resolved("acme/big")
    steps = hub.download(found, found.chosen)
    next(steps)
    steps.close()
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.parametrize("step", ["resolve", "peek", "download"])
def test_a_server_that_drips_is_left_at_the_time_limit(loopback, monkeypatch, tmp_path, step):
    found = resolved("acme/lora")
    loopback.fault["api" if step == "resolve" else "adapter_model.safetensors"] = "drip"
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.2)
    monkeypatch.setattr(hub, "MAX_DOWNLOAD_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(WsdemoError, match=r"bytes came in \d+ s"):
        hub.peek(found, found.chosen) if step == "peek" else fetched("acme/lora")
    assert time.monotonic() - started < 2
    assert not (tmp_path / "downloads").exists() or not list((tmp_path / "downloads").iterdir())


def test_a_download_that_drips_can_be_stopped_at_once(loopback):
    loopback.fault["adapter_model.safetensors"] = "drip"
    found = resolved("acme/lora")
    started = time.monotonic()
    steps = hub.download(found, found.chosen)
    next(steps)
    steps.close()
    assert time.monotonic() - started < 2


def test_a_file_beyond_the_limit_is_refused_without_fetching_it(loopback, monkeypatch):
    monkeypatch.setattr(hub, "MAX_LORA_BYTES", 100)
    found = resolved("acme/lora")
    with pytest.raises(WsdemoError, match="are allowed"):
        hub.peek(found, found.chosen)
    assert all("/resolve/" not in path for path, _ in loopback.requests)


def test_old_downloads_make_room(loopback, monkeypatch, tmp_path):
    size = len(loopback.files["acme/lora"]["adapter_model.safetensors"])
    monkeypatch.setattr("wsdemo.downloads.MAX_DOWNLOADS_BYTES", 2 * size)
    for i in range(3):
        fetched(f"acme/many:v{i}.safetensors")
    fetched("acme/lora")
    kept = list((tmp_path / "downloads").iterdir())
    assert sum(f.stat().st_size for p in kept for f in p.iterdir()) <= 2 * size + 1000


def test_a_token_goes_with_the_request_and_into_no_error(loopback, capsys):
    fetched("acme/lora", "hf_secretsecret")
    sent = [headers.get("authorization") or headers.get("Authorization")
            for _, headers in loopback.requests]  # fmt: skip
    assert all(value == "Bearer hf_secretsecret" for value in sent)
    loopback.fault["api"] = 401
    with pytest.raises(WsdemoError) as caught:
        resolved("acme/lora", "hf_secretsecret")
    assert "secret" not in str(caught.value) + caught.value.hint
    assert "secret" not in capsys.readouterr().err


def test_a_predictor_is_found_by_its_name(loopback, capsys):
    body = (DIRECTORY / "lol-face-fields.safetensors").read_bytes()
    loopback.files["acme/predictor"] = {"README.md": b"hi", "predictor.safetensors": body}
    assert main(["lol", "list", "--predictor", "acme/predictor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictors"]
    assert found[0]["name"] == "lol-face-fields"
    assert len(found) == 1 + len(list(DIRECTORY.glob("lol-*.safetensors")))
    assert main(["lol", "list", "--predictor", "acme/lora", "--json"]) == 2
    assert "wsdemo metadata" in capsys.readouterr().out
    assert main(["lol", "list", "--predictor", "no such thing", "--json"]) == 2


def test_the_page_takes_a_predictor_by_name_and_no_path(loopback, tmp_path):
    body = (DIRECTORY / "lol-face-fields.safetensors").read_bytes()
    loopback.files["acme/predictor"] = {"predictor.safetensors": body}
    (own,), told = use_predictor("acme/predictor", None, "")
    assert own.name == "lol-face-fields"
    assert "Smiling" in told
    (tmp_path / "predictor.safetensors").write_bytes(body)
    with pytest.raises(gr.Error, match="owner/name"):
        use_predictor(str(tmp_path), None, "")
    (own,), _ = use_predictor("", str(tmp_path / "predictor.safetensors"), "")
    assert own.name == "lol-face-fields"
    assert use_predictor("", None, "")[0] == ()
    with pytest.raises(gr.Error, match="No such repository"):  # a name, though a file has it too
        use_predictor("checkpoints/faces-base.safetensors", None, "")


def test_without_a_token_none_is_sent(loopback, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    fetched("acme/lora")
    assert not any("uthorization" in k for _, headers in loopback.requests for k in headers)


def test_the_command_line_takes_a_repository(loopback, capsys):
    assert main(["inspect", "acme/lora", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modules"] == 3
    assert found["base_model"]["name"] == "acme/base"
    assert main(["inspect", "acme/many", "--json"]) == 2
    assert "v0.safetensors" in capsys.readouterr().out
