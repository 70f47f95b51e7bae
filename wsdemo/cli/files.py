"""Files of the command line: inputs that must be there, outputs that replace no input.

Outputs are checked before the work, and made after it: a refused command leaves nothing behind.
"""

from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.files import check_folder, check_place

PICTURE = (".png",)
WEIGHTS = (".safetensors",)
MESH = (".glb", ".obj", ".ply", ".stl")


def existing(path: Path) -> Path:
    """The path of a file that is there.

    Raises:
        WsdemoError: There is no such file.
    """
    if not path.is_file():
        raise WsdemoError("File not found", f"{path} is not a file.", "Check the path.")
    return path


def lora_input(path: Path, adapter: str = "") -> tuple[Path, str]:
    """An adapter that is there: a file or the one in a folder, and its name within the file.

    Raises:
        WsdemoError: There is none, or there are several.
    """
    if not path.is_dir():
        return existing(path), adapter
    from wsdemo.lora.containers.finding import chosen

    return chosen(path, adapter)


def check_output(out: Path, endings: tuple[str, ...], *inputs: Path) -> None:
    """Checks where a result is to be written, before the work.

    Raises:
        WsdemoError: The name ends in none of ``endings``, it is one of the inputs, or it cannot be
            written.
    """
    if out.suffix.lower() not in endings:
        raise WsdemoError(
            "Wrong ending",
            f"Found {out.name[:80]!r}; expected a name that ends in {' or '.join(endings)}.",
            f"Name the output with --out NAME{endings[0]}",
        )
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise WsdemoError(
            "The input would be replaced", f"--out is the input, {out}.", "Name another file."
        )
    check_place(out)


def output(
    out: Path | None, endings: tuple[str, ...], *inputs: Path, default: Path | None = None
) -> Path:
    """The file to write, whose folder is made with it.

    Args:
        out: What was asked for; None: ``default``, which must not replace anything.
        endings: What its name may end in, the usual one first.
        inputs: Files that are read.
        default: Default: the first input with the usual ending.

    Raises:
        WsdemoError: See check_output; also a default that is there.
    """
    path = out or fresh(default or inputs[0].with_suffix(endings[0]))
    check_output(path, endings, *inputs)
    return path


def fresh(path: Path) -> Path:
    """A default output, which must not replace a file that is there.

    Raises:
        WsdemoError: There is such a file.
    """
    if path.exists():
        raise WsdemoError(
            "File exists", f"{path} would be replaced.", "Name the output with --out."
        )
    return path


def folder_for(path: Path) -> Path:
    """A folder to write into, which is made with the first file.

    Raises:
        WsdemoError: It cannot be written.
    """
    check_folder(path)
    return path
