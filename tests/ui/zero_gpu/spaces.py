"""Stands in for the package of Hugging Face's ZeroGPU, and fails where that would.

As there: a marked function runs in a forked process; arguments, results and errors are pickled; the
page must have one at its start; CUDA seems to be there, and outside of a marked function touching
it fails. Inside, this machine having none, ``cuda`` is the CPU, and how often it was asked for is
counted. Unlike there, nobody waits for a GPU, and no quota ends unless ``QUOTA`` says so.
"""

import inspect
import multiprocessing
import os
import pickle
import sys
import traceback
from functools import wraps

if "gradio" in sys.modules and not hasattr(sys.modules["gradio"], "Blocks"):
    raise ImportError("gradio is half imported")
if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
    raise RuntimeError("CUDA has been initialized before importing the `spaces` package.")

MARKED: list[str] = []
DURATIONS: list[int] = []
QUOTA = [10_000]
"""Seconds that the visitor has left."""
_fork = multiprocessing.get_context("fork")


def gradio_auto_wrap(function):
    return function


def GPU(task=None, *, duration=60):
    if not callable(task):
        return lambda function: GPU(function, duration=duration)
    if inspect.iscoroutinefunction(task):
        raise NotImplementedError
    MARKED.append(task.__name__)

    def results(args, kwargs):
        import gradio as gr

        seconds = duration(*args, **kwargs) if callable(duration) else duration
        if seconds > QUOTA[0]:
            raise gr.Error("You have exceeded your GPU quota", print_exception=False)
        DURATIONS.append(seconds)
        given = pickle.dumps((args, kwargs))  # ZeroGPU's queue does so
        ours, theirs = _fork.Pipe()
        process = _fork.Process(target=_work, args=(task, given, theirs, ours), daemon=True)
        process.start()
        theirs.close()
        try:
            while True:
                try:
                    kind, value = pickle.loads(ours.recv_bytes())
                except EOFError:
                    raise gr.Error("GPU task aborted", title="ZeroGPU worker error") from None
                if kind == "end":
                    return
                if kind == "error":
                    raise gr.Error(value, title="ZeroGPU worker error")
                yield value
        finally:
            process.terminate()
            process.join()

    if inspect.isgeneratorfunction(task):

        @wraps(task)
        def call(*args, **kwargs):
            yield from results(args, kwargs)

    else:

        @wraps(task)
        def call(*args, **kwargs):
            (value,) = results(args, kwargs)
            return value

    return call


def _work(task, given, pipe, other):
    other.close()
    sys.modules["torch"].cuda._lazy_init = lambda: None
    try:
        args, kwargs = pickle.loads(given)
        with _cuda_is_the_cpu() as counted:
            done = task(*args, **kwargs)
            for value in done if inspect.isgenerator(done) else [done]:
                pipe.send_bytes(pickle.dumps(("value", value)))
            if not counted.times:
                raise RuntimeError("nothing was calculated on cuda")
        pipe.send_bytes(pickle.dumps(("end", None)))
    except BaseException:
        pipe.send_bytes(pickle.dumps(("error", traceback.format_exc()[-2000:])))
    finally:
        pipe.close()
        os._exit(0)


def _cuda_is_the_cpu():
    import torch
    from torch.overrides import TorchFunctionMode

    class CudaIsTheCpu(TorchFunctionMode):
        times = 0

        def _here(self, value):
            if isinstance(value, str | torch.device) and str(value).startswith("cuda"):
                self.times += 1
                return torch.device("cpu")
            return value

        def __torch_function__(self, func, types, args=(), kwargs=None):
            args = tuple(self._here(a) for a in args)
            return func(*args, **{k: self._here(v) for k, v in (kwargs or {}).items()})

    return CudaIsTheCpu()


def _outside(*_, **__):
    raise RuntimeError("Low-level CUDA init reached outside of a @spaces.GPU function")


def start():
    """What ZeroGPU does to torch and gradio; called once both are there."""
    import gradio as gr
    import torch

    torch.cuda.is_available = lambda: True
    torch.cuda._lazy_init = _outside
    launch = gr.Blocks.launch

    def checked(*args, **kwargs):
        if not MARKED:
            raise RuntimeError("No @spaces.GPU function detected during startup")
        return launch(*args, **kwargs)

    gr.Blocks.launch = checked
