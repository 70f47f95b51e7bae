import pickle

from wsdemo.errors import WsdemoError


def test_an_error_crosses_processes_whole():
    error = WsdemoError("Bad file", "Found 3; expected 4.", "Use 4.")
    again = pickle.loads(pickle.dumps(error))
    assert again.as_dict() == error.as_dict()
    assert str(again) == "Bad file: Found 3; expected 4."
