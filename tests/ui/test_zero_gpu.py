"""What a Space on ZeroGPU would refuse, with a package that stands in for its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from wsdemo.domains.registry import DOMAINS
from wsdemo.ui.fields.denoising import START_SECONDS, WORTH, denoised_on_gpu, gpu_seconds

ROOT = Path(__file__).resolve().parent.parent.parent
PLAYED = Path(__file__).parent / "zero_gpu"


def run(code, *arguments):
    """What a new process prints that has the package, as on a Space."""
    environment = os.environ | {
        "PYTHONPATH": f"{PLAYED}{os.pathsep}{ROOT}", "SPACES_ZERO_GPU": "true",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, cwd=ROOT, timeout=300,
        capture_output=True, text=True,
    )  # fmt: skip
    return process.returncode, process.stdout, process.stderr


THE_APP = """
import wsdemo.ui.app as app
import spaces
from wsdemo.ui.fields import denoising
denoising.WORTH = 40  # 4 faces of 10 steps: what is worth a GPU takes a minute otherwise
spaces.start()
page = app.build()
import sys
assert "denoised_on_gpu" in spaces.MARKED
_, address, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
from gradio_client import Client
client = Client(address, verbose=False)
ask = dict(count=4, seed=3, steps=10, guidance=1.0, wanted=[], unwanted=[], temperature=1.0)
def drawn():
    gallery, status = client.predict(**ask, api_name="/sample_faces")
    return [open(one["image"], "rb").read() for one in gallery]
on_gpu = drawn()
assert len(spaces.DURATIONS) == 1, spaces.DURATIONS
spaces.QUOTA[0] = 0
on_cpu = drawn()
assert len(spaces.DURATIONS) == 1
assert on_gpu == on_cpu and len(on_cpu) == 4
spaces.QUOTA[0] = 10_000
ask["count"] = 2
assert len(drawn()) == 2
assert len(spaces.DURATIONS) == 1  # not worth its start
print("served", len(on_cpu))
"""


def test_the_app_draws_as_a_space_on_zero_gpu_lets_it():
    status, out, errors = run(THE_APP)
    assert status == 0, errors[-3000:]
    assert "served 4" in out


FAULTS = {
    "no mark": ("gr.Blocks().launch(prevent_thread_lock=True)", "No @spaces.GPU function"),
    "touched outside": ("torch.cuda._lazy_init()", "outside of a @spaces.GPU function"),
    "not pickled": ("spaces.GPU(lambda f: torch.ones(1, device='cuda'))(lambda: 0)", "pickle"),
    "a result that is not pickled": (
        "spaces.GPU(lambda: (torch.ones(1, device='cuda'), lambda: 0)[1])()", "pickle",
    ),
    "no use of it": ("spaces.GPU(lambda: 1)()", "nothing was calculated on cuda"),
}  # fmt: skip
TRY = """
import json, sys
import torch, gradio as gr, spaces
spaces.start()
said = {}
for name, code in json.loads(sys.argv[1]).items():
    try:
        eval(code)
    except BaseException as error:
        said[name] = str(error)
print(json.dumps(said))
"""


def test_the_package_that_stands_in_fails_where_zero_gpu_does():
    status, out, errors = run(TRY, json.dumps({name: code for name, (code, _) in FAULTS.items()}))
    assert status == 0, errors[-2000:]
    heard = json.loads(out.splitlines()[-1])
    for name, (_, message) in FAULTS.items():
        assert message in heard.get(name, "no error"), name


def test_elsewhere_the_mark_does_nothing_and_durations_follow_the_work():
    assert not hasattr(denoised_on_gpu, "__wrapped__")
    (_, _, drawn), *_ = denoised_on_gpu("faces", 1, 0, 2)
    assert drawn.shape[0] == 1
    few, many = (gpu_seconds("faces", 16, 0, steps) for steps in (50, 200))
    assert START_SECONDS < few < many <= 30
    most = min(16, DOMAINS["faces"].most)
    assert most * 100 > WORTH  # the page can ask for what is worth it
    assert most * 30 < WORTH  # and does not by default
