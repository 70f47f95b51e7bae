import pickle

import pytest

from tests.lora.files import families, write
from wsdemo.errors import WsdemoError, refuse_lack_of_memory
from wsdemo.lora.assembly import Assembly
from wsdemo.lora.reader import read_lora


def test_an_error_crosses_processes_whole():
    error = WsdemoError("Bad file", "Found 3; expected 4.", "Use 4.")
    again = pickle.loads(pickle.dumps(error))
    assert again.as_dict() == error.as_dict()
    assert str(again) == "Bad file: Found 3; expected 4."


def test_lack_of_memory_is_called_so_and_not_a_wrong_shape(tmp_path, monkeypatch):
    path = write(tmp_path / "x.safetensors", families()["kohya"][0], {})
    lacking = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
    for error in (lacking, MemoryError("Unable to allocate 9 GiB"), RuntimeError("bad shapes")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(Assembly, "_factors", fail)
        expected = "its shapes do not fit" if "shapes" in str(error) else "less memory left"
        with pytest.raises(WsdemoError, match=expected):
            read_lora(path)
    with pytest.raises(WsdemoError, match="less memory left"):
        refuse_lack_of_memory(lacking)
