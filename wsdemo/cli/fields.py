"""The command line's verbs of fields: sample, fit, decode, render, canonical, of any domain."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsdemo.cli.files import PICTURE, WEIGHTS, existing, folder_for, output
from wsdemo.domains.domain import Domain, FitOptions, Option
from wsdemo.domains.fitting import check_options, fit_original
from wsdemo.domains.instances import (
    canonical,
    decode,
    decode_one,
    domain_of,
    drawn_instance,
    open_instance,
)
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.registry import DOMAINS, domain_named, domain_reading
from wsdemo.domains.sampling import sample
from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole

Result = dict[str, Any]


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def progress(text: str) -> None:
    """The line that replaces itself, on stderr."""
    print(f"\r{text}", end="", file=sys.stderr, flush=True)


# ---- options -----------------------------------------------------------------------


def values_of(
    domain: Domain, options: Sequence[Option], others: Sequence[Option], args: argparse.Namespace
) -> dict[str, Any]:
    """A domain's values of its own options; those that only other domains have are refused.

    Args:
        domain: Whose.
        options: Of the domain.
        others: Of all domains.
        args: What was given.

    Raises:
        WsdemoError: A value is out of range, or of an option that does not apply.
    """
    names = {option.name for option in options}
    for option in {o.name: o for o in others if o.name not in names}.values():
        if getattr(args, option.name) is not None:
            raise does_not_apply(option.flag_name, domain)
    return domain.chosen(options, {name: getattr(args, name) for name in names})


def does_not_apply(flag: str, domain: Domain) -> WsdemoError:
    """What to say of an option of another kind of input."""
    return WsdemoError(
        "Option does not apply",
        f"{flag} changes nothing about {domain.many}.",
        f"Leave {flag} out.",
    )


def detail_of(domain: Domain, args: argparse.Namespace) -> dict[str, Any]:
    """How a domain decodes, by the options that were given: name → value."""
    return values_of(domain, domain.detail, [o for d in DOMAINS.values() for o in d.detail], args)


def wishes_of(domain: Domain, args: argparse.Namespace) -> dict[str, bool]:
    """The labels that are wished.

    Raises:
        WsdemoError: They are of another domain, or not understood.
    """
    labels = domain.labels
    for other in {d.labels.one: d.labels for d in DOMAINS.values()}.values():
        if other.one != labels.one and getattr(args, other.one):
            raise WsdemoError(
                f"{other.one.capitalize()} not understood",
                f"{domain.many.capitalize()} have no {other.many}.",
                f"Use --{labels.one}.",
            )
    wish = getattr(args, labels.one)
    if labels.are_exclusive:
        return {} if wish is None else {wish: True}
    return parse_labels(wish, labels.one)


def parse_labels(wishes: Sequence[str], option: str) -> dict[str, bool]:
    """Reads ``NAME``, ``NAME=yes`` and ``NAME=no`` as label → whether it is wished or unwanted.

    Raises:
        WsdemoError: A value is neither yes nor no, or both are asked of one label.
    """
    values = {"yes": True, "no": False}
    result: dict[str, bool] = {}
    for wish in wishes:
        name, _, value = wish.partition("=")
        if (value or "yes") not in values:
            raise WsdemoError(
                f"{option.capitalize()} not understood",
                f"Found {wish!r}; expected NAME, NAME=yes or NAME=no.",
                f"For example: --{option} NAME --{option} OTHER=no",
            )
        wished = values[value or "yes"]
        if result.setdefault(name, wished) != wished:
            raise WsdemoError(
                "Contradiction", f"{name} is wanted and unwanted.", "Remove one of the two."
            )
    return result


# ---- verbs -------------------------------------------------------------------------


def run_sample(args: argparse.Namespace) -> Result:
    """``sample DOMAIN``: draws instances; writes them, and what they show."""
    started, domain = time.monotonic(), domain_named(args.what)
    wishes, detail = wishes_of(domain, args), detail_of(domain, args)
    folder = folder_for(args.out)
    if args.guidance is not None and not diffusion_of(domain).attribute_names:
        raise does_not_apply("--guidance", domain)
    heat = domain.temperature if args.temperature is None else args.temperature
    moment = None
    for moment in sample(domain, args.count, args.seed, args.steps, args.guidance, wishes, heat):
        progress(f"step {moment.step}/{moment.steps}")
    say("")
    assert moment is not None
    adapter = diffusion_of(domain).adapter
    instances = [drawn_instance(domain, adapter, w, heat) for w in moment.instances]
    files, saved = [], []
    for i, (instance, shown) in enumerate(zip(instances, decode(instances, **detail), strict=True)):
        stem = folder / f"{domain.name}-seed{args.seed}-{i:03d}"
        saved.append(stem.with_suffix(WEIGHTS[0]))
        instance.save(saved[-1])
        files.append(stem.with_suffix(domain.writes[0]))
        ending = domain.writes[0].removeprefix(".")
        write_whole(files[-1], domain.content(shown, ending, instance))
    return {
        "seed": args.seed,
        "files": [str(f) for f in files],
        "instances": [str(f) for f in saved],
        "seconds": time.monotonic() - started,
    }


def domain_to_fit(path: Path, base: str | None) -> Domain:
    """The domain that reads a file, or of several of one kind the one that is asked for.

    Raises:
        WsdemoError: The one asked for reads no such files.
    """
    reader = domain_reading(path, DOMAINS.values())
    if base is None:
        return reader
    named = domain_named(base)
    if named.kind == reader.kind:
        return named
    raise WsdemoError(
        "Option does not apply",
        f"{path.name[:80]} is no {named.original}, which --base {base} is for.",
        "Leave --base out.",
    )


def fit_options(args: argparse.Namespace) -> FitOptions:
    """How to fit, of what was given; what was not has the default of FitOptions.

    Raises:
        WsdemoError: Two options exclude each other, or one does not apply.
    """
    names = ("representation", "rank", "seed", "seconds", "steps", "target_psnr", "start")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    overruled = [
        n for n in ("seconds", "steps", "target_psnr", "start") if args.comparable and n in given
    ]
    if overruled or {"seconds", "steps"} <= set(given):
        option, other = ("--comparable", overruled[0]) if overruled else ("--seconds", "steps")
        raise WsdemoError(
            "Contradiction",
            f"{option} and --{other.replace('_', '-')} exclude each other.",
            "Leave one of the two out.",
        )
    options = FitOptions(**given, is_comparable=args.comparable)
    if "start" in given and not options.representation.startswith("mlora"):
        raise WsdemoError(
            "Option does not apply",
            f"--start is of mLoRA; {options.representation} has no choice of starts.",
            "Leave --start out.",
        )
    return options


def run_fit(args: argparse.Namespace) -> Result:
    """``fit ORIGINAL``: fits weights to a picture or a mesh, measures and writes them."""
    options = fit_options(args)
    domain = domain_to_fit(existing(args.input), args.base)
    others = [option for d in DOMAINS.values() for option in d.framing]
    framing = values_of(domain, domain.framing, others, args)
    out = output(args.out, WEIGHTS, args.input)
    check_options(domain, options)
    began = time.monotonic()
    original = domain.open(domain, args.input, **framing)
    reading = time.monotonic() - began
    for note in original.notes:
        say(note)
    if options.representation.startswith("mlp"):
        say("making the MLP's start, which --seconds does not count")
    last = None
    for last in fit_original(domain, original, options):
        text = f"step {last.step} {last.psnr:.2f} dB {last.seconds_left:.0f} s left  "
        progress(text + ("measuring  " if last.is_measuring else ""))
    say("")
    assert last is not None
    for note in last.notes:
        say(note)
    size = last.instance.save(out)
    measured = last.instance.measured
    fitting = last.seconds - last.measuring_seconds
    apart = {"seconds", "steps", *original.facts, *domain.plain_facts}
    return {
        "domain": last.instance.domain,
        **{key: value for key, value in measured.items() if key not in apart},
        "weights": last.instance.adapter.weight_count,
        "bytes": size,
        **domain.fit_facts(args.input, original, measured),
        "seconds": fitting,
        "fit_seconds": fitting,
        "reading_seconds": reading,
        "measuring_seconds": last.measuring_seconds,
        "steps": last.step,
        "notes": [*original.notes, *last.notes],
        "file": str(out),
    }


def run_decode(args: argparse.Namespace) -> Result:
    """``decode INSTANCE``: writes what an instance file shows."""
    started = time.monotonic()
    instance = open_instance(existing(args.input))
    domain = domain_of(instance)
    out = output(args.out, domain.writes, args.input)
    detail = detail_of(domain, args)
    shown = decode_one(instance, **detail)
    ending = out.suffix.lower().removeprefix(".")
    write_whole(out, domain.content(shown, ending, instance))
    for note in domain.losses(shown, instance, [ending]):
        say(note)
    return {
        "domain": instance.domain,
        "representation": instance.adapter.config.representation,
        "rank": instance.adapter.config.rank,
        "weights": instance.adapter.weight_count,
        "file": str(out),
        **domain.facts(shown, instance, detail, [ending]),
        "seconds": time.monotonic() - started,
    }


def run_render(args: argparse.Namespace) -> Result:
    """``render ORIGINAL``: a picture of an original's file."""
    started = time.monotonic()
    domains = [d for d in DOMAINS.values() if d.render is not None]
    domain = domain_reading(existing(args.input), domains)
    out = output(args.out, PICTURE, args.input)
    others = [option for d in domains for option in d.render_options]
    options = values_of(domain, domain.render_options, others, args)
    assert domain.render is not None
    facts = domain.render(args.input, out, options)
    return {"file": str(out), **facts, "seconds": time.monotonic() - started}


def run_canonical(args: argparse.Namespace) -> Result:
    """``canonical INSTANCE``: writes the same field with canonical factors."""
    instance = open_instance(existing(args.input))
    default = args.input.with_suffix(".canonical.safetensors")
    out = output(args.out, WEIGHTS, args.input, default=default)
    fixed = canonical(instance)
    size = fixed.save(out)
    moved = float((fixed.weights - instance.weights).norm())
    return {"file": str(out), "bytes": size, "moved": moved}
