"""Owners, collections and lists of repositories, on a Hub on this machine."""

import pytest

from wsdemo.errors import WsdemoError
from wsdemo.hub.listing import repositories, several
from wsdemo.hub.reference import Reference


def names(text, **more):
    found = repositories(text, **more)
    return [r.repo for r in found.references], found.left_out


@pytest.mark.parametrize("text", ["acme", "hf://acme", "https://huggingface.co/acme"])
def test_an_owner_means_all_of_its_models_page_by_page(loopback, text):
    found, left_out = names(text)
    assert found == [repo for repo in loopback.files if repo.startswith("acme/")]
    assert left_out == 0
    assert sum("/api/models?" in path for path, _ in loopback.requests) == 2  # two a page


def test_no_more_are_asked_for_than_wanted_and_the_rest_is_counted(loopback):
    found, left_out = names("acme", most=1)
    assert found == ["acme/lora"]
    assert left_out == 1  # at least
    assert len(loopback.requests) == 1


def test_a_collection_means_its_models_once_each(loopback):
    slug = "acme/best-0123456789abcdef01234567"
    models = [("model", name) for name in ("acme/one", "acme/lora", "acme/one")]
    loopback.collections[slug] = [("dataset", "acme/x"), *models]
    for text in (f"collections/{slug}", f"https://huggingface.co/collections/{slug}"):
        assert names(text)[0] == ["acme/one", "acme/lora"]


def test_a_repository_stands_for_itself():
    found = repositories("hf://acme/lora@main:x.safetensors").references
    assert found == (Reference("acme/lora", "main", "x.safetensors"),)
    assert repositories("datasets/acme/x").references[0].kind == "dataset"
    assert several(["a, b\n c", "b"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nobody", "names no model repository"),
        ("collections/acme/none", "not visible"),
        ("collections/../../etc", "Not a collection"),
        ("a/b/c", "Not a reference"),
        ("", "Not a reference"),
    ],
)
def test_what_is_not_there_is_said(loopback, text, said):
    with pytest.raises(WsdemoError, match=said):
        repositories(text)


@pytest.mark.parametrize(
    ("fault", "said"), [(503, "status 503"), (429, "slow down"), ("nonsense", "not understood")]
)
def test_a_hub_that_fails_is_said(loopback, fault, said):
    loopback.fault["api"] = fault
    with pytest.raises(WsdemoError, match=said):
        repositories("acme")
