"""What a training leaves for people: a model card, and the curves of its losses."""

import json
from html import escape
from pathlib import Path
from typing import Any

from geo_ray.evaluation.addresses import LABELS
from geo_ray.models.bundle import open_bundle
from geo_ray.train.run_folder import PROGRESS

WIDTH, HEIGHT, MARGIN = 640, 220, 44
QUIET = ("step", "time", "images_per_step")


def write_card(recipe: str, hardware: str, output: Path, bundle: Path) -> None:
    """Write ``MODEL_CARD.md`` and ``training.html`` into the output of a training."""
    opened = open_bundle(str(bundle.resolve()))
    metrics = output / "metrics.json"
    found: dict[str, Any] = json.loads(metrics.read_text()) if metrics.exists() else {}
    lines = [
        f"# {opened.description}",
        "",
        f"Trained by `geo-ray train {recipe}`, a recipe meant for {hardware}. Bundle `{opened.fingerprint[:12]}`.",
        "",
        f"- Licence: {opened.licence}",
        f"- Attribution: {opened.attribution}",
        f"- Encoder: {opened.encoder.architecture}, {opened.image_size} px, {opened.num_features} features",
        "- For: finding where photos like those it was trained on were taken, with a radius. Not for finding people.",
        "",
    ]
    if "refined" in found:
        lines += ["| on test images, by place | median km | within 25 km | within 200 km |", "|---|---|---|---|"]
        for name in ("refined", "cell_centre"):
            at, median = found[name]["accuracy_at_km"], found[name]["median_error_km"]
            lines.append(f"| {name.replace('_', ' ')} | {median:.1f} | {at['25']:.1%} | {at['200']:.1%} |")
        lines += ["", f"{found['num_images']:,} images of {found['num_places']:,} places.", ""]
    if "ssa_1" in found:
        place = found["by_place"]
        lines += ["| on test images, by place | % | 95 % interval |", "|---|---|---|"]
        for name, label in LABELS.items():
            if name.startswith("s"):
                between = " to ".join(f"{100 * bound:.1f}" for bound in place["intervals_95"][name] or ())
                lines.append(f"| {label} | {100 * place[name]:.1f} | {between} |")
        lines += ["", f"{found['num_images']:,} images in {place['num_places']:,} places.", ""]
    lines += ["Settings: `config.json`. Losses: `training.html`.", ""]
    (output / "MODEL_CARD.md").write_text("\n".join(lines))
    (output / "training.html").write_text(curves_page(output))


def curves_page(output: Path) -> str:
    """A page with a curve for each figure of each step of a training."""
    parts = []
    for path in sorted(output.rglob(PROGRESS)):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        title = path.parent.relative_to(output).as_posix()
        parts.append(f"<h2>{escape('training' if title == '.' else title)}</h2>")
        for name in dict.fromkeys(name for line in lines for name in line if name not in QUIET):
            points = [
                (float(line["step"]), float(line[name])) for line in lines if name in line and line[name] == line[name]
            ]
            parts.append(f"<figure><figcaption>{escape(name)}</figcaption>{_curve(points)}</figure>")
    style = "body{font:15px system-ui;margin:2em auto;max-width:44em}figure{margin:1em 0}svg{width:100%}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Training</title><style>{style}</style><h1>Training</h1>{''.join(parts)}</html>\n"
    )


def _curve(points: list[tuple[float, float]]) -> str:
    """A line through points, with its least and largest values beside it."""
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    low, high, last = min(ys), max(ys), max(xs)
    span, wide = (high - low) or 1.0, (last - min(xs)) or 1.0
    drawn = " ".join(
        f"{MARGIN + (x - min(xs)) / wide * (WIDTH - MARGIN - 8):.1f},"
        f"{HEIGHT - 20 - (y - low) / span * (HEIGHT - 34):.1f}"
        for x, y in points
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img><polyline points='{drawn}' fill=none stroke=#2563eb "
        f"stroke-width=2 /><g font-size=11 fill=#555><text x=0 y=18>{high:.4g}</text>"
        f"<text x=0 y={HEIGHT - 18}>{low:.4g}</text><text x={WIDTH - 8} y={HEIGHT - 4} text-anchor=end>step "
        f"{last:,.0f}</text></g></svg>"
    )
