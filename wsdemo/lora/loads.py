"""Does it load? Which tensors a program reads under this file's names, and how strong it then is.

By each program's own rules, as the tables and the versions in its answer have them. A tensor that
a program has no name for is dropped by it, mostly without a word.
"""

from wsdemo.lora.bases.canonical import candidates
from wsdemo.lora.modules import Lora
from wsdemo.lora.programs.diffusers import in_diffusers
from wsdemo.lora.programs.peft import in_llama_cpp, in_peft, in_vllm
from wsdemo.lora.programs.pictures import in_pictures
from wsdemo.lora.programs.view import Loads


def loads_in(lora: Lora) -> dict[str, Loads]:
    """Every program's view of a LoRA."""
    base = next(iter(candidates(lora)), None)
    views = {
        "diffusers": in_diffusers(lora, base),
        "comfyui": in_pictures(lora, base, "comfyui"),
        "kohya": in_pictures(lora, base, "kohya"),
        "peft": in_peft(lora),
    }
    if base is not None and not base.component:
        views |= {"vllm": in_vllm(lora), "llama.cpp": in_llama_cpp(lora, base)}
    return views
