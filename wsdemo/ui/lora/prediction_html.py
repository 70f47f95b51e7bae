"""What the predictors say of a LoRA, as HTML: values, evidence, doses, the gauge exhibit."""

import html
from collections import Counter

import torch

from wsdemo.lol.data.pairs import regauge_pairs
from wsdemo.lol.predictor.answers import (
    WEAKER,
    Answer,
    Grounds,
    dose_curve,
    module_evidence,
    rank_curve,
    weakened_outside,
)
from wsdemo.lol.predictor.predictor import USUAL, Prediction
from wsdemo.ui.shared.curve import ACCENT, curve_svg

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Strengths of the dose curve."""
NICE = {"celeba_clip_score": "CelebA-CLIP score", "data_set_size": "size of the training set"}
MEANINGS = {
    "lol-face-generator": "An attribute's percentage is the chance that more of the faces that the"
    " LoRA was finetuned on have it than faces at large.",
}
"""Predictor → what its yes-or-no labels mean, where their names do not say it."""
INK, PALE, BROWN = "#312e81", "#eef2ff", "#b45309"


def shown(name: str) -> str:
    """A label's name for people."""
    return NICE.get(name, name.replace("_", " "))


def _percent(p: float) -> str:
    return f"{100 * p:.0f} %" if 0.005 <= p <= 0.995 else f"{100 * p:.1f} %"


def bar(share: float, low: float | None = None, high: float | None = None) -> str:
    """A bar from 0 to 1, or a band with a mark; the number stands beside it."""
    if low is None or high is None:
        inner = f'<rect width="{100 * share:.1f}" height="12" fill="{ACCENT}"/>'
    else:
        inner = (
            f'<rect x="{100 * low:.1f}" width="{100 * (high - low):.1f}" height="12"'
            f' fill="{ACCENT}" fill-opacity="0.35"/>'
            f'<rect x="{100 * share - 1:.1f}" width="2" height="12" fill="{INK}"/>'
        )
    return (
        '<svg viewBox="0 0 100 12" width="100%" height="12" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect width="100" height="12" fill="{PALE}"/>{inner}</svg>'
    )


def _row(p: Prediction, baseline: Prediction | None, has_baseline: bool) -> str:
    name, other = html.escape(shown(p.name)), ""
    if p.probability is not None:
        other = _percent(baseline.probability or 0.0) if baseline else "none"
        value, drawn = _percent(p.probability), bar(p.probability)
    else:
        low, high = p.interval or (p.value, p.value)
        unit = f" {html.escape(p.unit)}" if p.unit else ""
        value = f"{p.value:.3g}{unit}<br><small>90 %: {low:.3g} to {high:.3g}</small>"
        start, mark, end = (min(max(v, 0.0), 1.0) for v in p.place or (0.0, 0.5, 1.0))
        drawn = bar(mark, start, end)
        other = f"{baseline.value:.3g}" if baseline else "none"
    compared = f"<td class='wd-num'>{other}</td>" if has_baseline else ""
    return (
        f"<tr><th scope='row'>{name}</th><td class='wd-num'>{value}</td>"
        f"<td class='wd-bar'>{drawn}</td><td class='wd-num'>{html.escape(p.held_out)}</td>"
        f"{compared}</tr>"
    )


def _legend(answer: Answer) -> str:
    """What the columns hold, as far as this answer needs it."""
    sentences = [MEANINGS.get(answer.predictor, "")]
    if any(p.probability is None for p in answer.predictions):
        sentences.append(
            "The bar of a value is its 90 % interval within the training labels: their mean in the"
            f" middle, {USUAL:g} standard deviations to either end, the mark is the prediction."
        )
    tasks = {p.task for p in answer.predictions} - {p.task for p in answer.baseline}
    if answer.baseline and tasks:
        kept = ", ".join(dict.fromkeys(p.task for p in answer.baseline))
        sentences.append(
            f"The MLP of raw factors was kept for comparison on one task alone: {kept}."
        )
    sentences += [f"Not answered: {shown(t)}; {why}." for t, why in answer.not_answered.items()]
    return "".join(f"<p>{html.escape(text)}</p>" for text in sentences if text)


def predictions_html(answer: Answer) -> str:
    """The answer: a table, or the reason why there is none."""
    if answer.abstained:
        more = (
            "<p>The passport and the geometry above hold for every LoRA. With a few hundred"
            " labelled LoRAs of this base, a predictor is one command away:</p><pre>python -m"
            " wsdemo lol train --loras DIR --labels labels.csv --out my-predictor/</pre>"
            if answer.family == "unknown"
            else ""
        )
        return (
            f"<div class='wd-answer'><p><strong>No prediction.</strong>"
            f" {html.escape(answer.reason)}</p>{more}</div>"
        )
    others = {p.name: p for p in answer.baseline}
    size = Counter(p.task for p in answer.predictions)
    # Single values, then the clearest yes first: what is common and certain says least at the
    # end; then long lists of values.
    ordered = sorted(
        answer.predictions,
        key=lambda p: (p.probability is None and size[p.task] > 1, -(p.probability or 2.0)),
    )
    rows = "".join(_row(p, others.get(p.name), bool(others)) for p in ordered)
    compared = "<th scope='col'>MLP baseline</th>" if others else ""
    near = ", ".join(html.escape(n) for n in answer.neighbours)
    return (
        f"<div class='wd-answer'><p><strong>{html.escape(answer.family)}</strong></p>"
        "<div class='wd-scroll' tabindex='0' role='region' aria-label='Predictions'>"
        "<table><thead><tr><th scope='col'>Label</th><th scope='col'>Predicted</th>"
        "<th scope='col'>of 0 to 100 %, or the 90 % interval</th><th scope='col'>On test LoRAs</th>"
        f"{compared}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{_legend(answer)}"
        f"<p>Nearest training LoRAs by their spectra: {near}. Distance to the training LoRAs:"
        f" {answer.distance:.0%} of what is accepted.</p></div>"
    )


# ---- evidence and doses ---------------------------------------------------------------


def evidence_html(grounds: Grounds, label: str) -> str:
    """A heat strip: how the prediction of a label changes when one module is weaker."""
    predictor, pairs = grounds.predictor, grounds.pairs
    names = predictor.signature.names
    models, _ = predictor.task_of(label)
    changes = module_evidence(predictor, pairs, label)
    unit, factor = "standard deviations of the training labels", 1.0
    if models.task.kind == "binary":
        unit, factor = "percentage points", 100.0
    changes = [factor * v for v in changes]
    largest = max(abs(v) for v in changes) or 1.0
    width = 1000 / len(names)
    bars = "".join(
        f'<rect x="{i * width:.2f}" width="{width + 0.2:.2f}" height="36"'
        f' fill="{INK if v > 0 else BROWN}" fill-opacity="{0.04 + 0.96 * abs(v) / largest:.3f}">'
        f"<title>{html.escape(name[:120])}: {v:+.3g}</title></rect>"
        for i, (name, v) in enumerate(zip(names, changes, strict=True))
    )
    order = sorted(range(len(names)), key=lambda i: -abs(changes[i]))[:3]
    top = ", ".join(f"{html.escape(names[i][-44:])} ({changes[i]:+.2g})" for i in order)
    odd = weakened_outside(grounds)
    caution = (
        f" {odd} of these {len(names)} weaker LoRAs lie outside of what the predictor answers."
        if odd
        else ""
    )
    return (
        f'<svg viewBox="0 0 1000 36" width="100%" height="36" preserveAspectRatio="none" role="img"'
        f' aria-label="What each of {len(names)} modules adds to the prediction, in {unit}">'
        f'<rect width="1000" height="36" fill="#ffffff"/>{bars}</svg>'
        f"<p>The prediction less what it is with one module {100 * (1 - WEAKER):.0f} % weaker, in"
        f" {unit}. Most: {top}. Blue raises the prediction, brown"
        f" lowers it.{caution}</p>"
    )


def doses_html(grounds: Grounds, label: str) -> str:
    """The prediction against the LoRA's strength, and against the rank that is kept."""
    predictor, pairs = grounds.predictor, grounds.pairs
    doses, ranks = dose_curve(predictor, pairs, label, SCALES), rank_curve(grounds, label)
    name = shown(label)
    return (
        "<div class='wd-curves'>"
        + curve_svg(SCALES, doses, f"{name} at 0 to 2 times the strength")
        + curve_svg(list(range(1, len(ranks) + 1)), ranks, f"{name} with the rank cut to 1, 2 …")
        + "</div><p>Strengths other than 1 leave the training distribution: read the curve as what"
        " the predictor has learnt, not as a promise.</p>"
    )


def gauge_html(grounds: Grounds, seed: int) -> str:
    """The same update from other factors: the predictor stays, the MLP of raw factors moves."""
    predictor, pairs = grounds.predictor, grounds.pairs
    turned = regauge_pairs(pairs, torch.Generator().manual_seed(seed))
    before = {p.name: p for p in predictor.predict(pairs)}
    after = {p.name: p for p in predictor.predict(turned)}
    raw = {p.name: p for p in predictor.predict(pairs, is_baseline=True)}
    moved = {p.name: p for p in predictor.predict(turned, is_baseline=True)}
    few = [n for n in before if n in raw][:6] or list(before)[:6]

    def text(p: Prediction | None) -> str:
        if p is None:
            return "none"
        return f"{p.probability:.4f}" if p.probability is not None else f"{p.value:.4f}"

    rows = "".join(
        f"<tr><th scope='row'>{html.escape(shown(n))}</th><td class='wd-num'>{text(before[n])}</td>"
        f"<td class='wd-num'>{text(after[n])}</td><td class='wd-num'>{text(raw.get(n))}</td>"
        f"<td class='wd-num'>{text(moved.get(n))}</td></tr>"
        for n in few
    )
    return (
        "<div class='wd-answer'><table><thead><tr><th scope='col'>Label</th>"
        "<th scope='col'>Predictor</th><th scope='col'>re-gauged</th>"
        "<th scope='col'>MLP baseline</th><th scope='col'>re-gauged</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
