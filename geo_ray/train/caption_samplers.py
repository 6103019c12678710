"""Captions of photos, drawn anew each time an image is seen, with the words and probabilities of the papers.

PIGEON (arXiv 2307.05845, appendix B.2, and its code's thresholds), PIGEOTTO, and StreetCLIP (arXiv 2302.00275). What is
not known of a photo is never said.
"""

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter

import numpy as np

TEMPLATE_NAMES = ("town", "region", "country", "climate", "drive_side", "month")
COMPASS = ("north", "east", "south", "west")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is known of where, when and how a photo was taken; empty or None is not known.

    ``country`` is as a sentence has it ("the Netherlands"), ``climate`` a zone's name (``atlas.climate.ZONES``),
    ``drive_side`` left or right, ``month`` from 1. ``heading`` is where the first of a place's ``num_views`` faces, in
    degrees from north; this photo is number ``view`` of them, from 0, evenly around.
    """

    country: str = ""
    region: str = ""
    town: str = ""
    climate: str = ""
    drive_side: str = ""
    month: int | None = None
    heading: float | None = None
    view: int = 0
    num_views: int = 4

    def facts(self) -> tuple[str, ...]:
        """All that is true of the photo, as sentences and phrases have it; empty where not known."""
        return (
            f"close to the town of {self.town}" if self.town else "",
            f"in the region of {self.region}" if self.region else "",
            f"in {self.country}." if self.country else "",
            _climate(self),
            _drives(self),
            _facing(self),
            _month(self),
        )


def said_of(scene: Scene, caption: str) -> tuple[bool, ...]:
    """Whether a caption says each of the scene's ``facts``, in these words or by the bare name."""
    month = "" if scene.month is None else calendar.month_name[scene.month]
    bare = (scene.town, scene.region, scene.country, scene.climate, "", "", month)
    return tuple(
        bool(fact) and (fact in caption or bool(name and name in caption))
        for fact, name in zip(scene.facts(), bare, strict=True)
    )


Sampler = Callable[[Scene, np.random.Generator], str]


def pigeon(scene: Scene, rng: np.random.Generator) -> str:
    """PIGEON's caption: the place first, then in any order climate or driving side, compass and month.

    The place is left out only where the climate is told; the driving side is told only where that is not.
    """
    region = scene.region if _above(0.4, rng) else ""
    town = scene.town if _above(0.6, rng) else ""
    climate = _climate(scene) if _above(0.6, rng) else ""
    place = _place("A Street View photo", scene, town, region) if _above(0.3, rng) or not climate else ""
    drives = _drives(scene) if _above(0.7, rng) and not climate else ""
    facing = _facing(scene) if _above(0.7, rng) else ""
    month = _month(scene) if _above(0.7, rng) else ""
    others = [text for text in (climate, drives, facing, month) if text]
    return " ".join([text for text in (place,) if text] + [others[at] for at in rng.permutation(len(others))])


def pigeotto(scene: Scene, rng: np.random.Generator) -> str:
    """PIGEOTTO's caption: town and region wherever they are known, and neither compass nor month."""
    climate = _climate(scene) if _above(0.55, rng) else ""
    place = _place("A photo I took", scene, scene.town, scene.region) if _above(0.2, rng) or not climate else ""
    drives = _drives(scene) if _above(0.8, rng) and not climate else ""
    others = [text for text in (climate, drives) if text]
    return " ".join([text for text in (place,) if text] + others)


def streetclip(scene: Scene, rng: np.random.Generator) -> str:
    """StreetCLIP's caption: the place, always whole."""
    return _place("A Street View photo", scene, scene.town, scene.region)


SAMPLERS: dict[str, Sampler] = {"pigeon": pigeon, "pigeotto": pigeotto, "streetclip": streetclip}


def template_sampler(template: str) -> Sampler:
    """Captions of one's own: ``{town}``, ``{region}``, ``{country}``, ``{climate}``, ``{drive_side}`` and ``{month}``.

    Several templates, one of which is drawn, are parted by ``|``; one that names what isn't known of a photo is left
    out, and where that leaves none the caption is StreetCLIP's. ``ValueError`` for another name in braces.
    """
    templates = [text.strip() for text in template.split("|") if text.strip()]
    names = [{field for _, field, _, _ in Formatter().parse(text) if field is not None} for text in templates]
    if unknown := set().union(*names) - set(TEMPLATE_NAMES):
        raise ValueError(f"template={template!r} names {sorted(unknown)}; there are {', '.join(TEMPLATE_NAMES)}")

    def sample(scene: Scene, rng: np.random.Generator) -> str:
        month = "" if scene.month is None else calendar.month_name[scene.month]
        known = {name: getattr(scene, name) for name in TEMPLATE_NAMES if name != "month"} | {"month": month}
        fitting = [text for text, wanted in zip(templates, names, strict=True) if all(known[name] for name in wanted)]
        return fitting[rng.integers(len(fitting))].format(**known) if fitting else streetclip(scene, rng)

    return sample


def rng_of(seed: int, epoch: int, row: int) -> np.random.Generator:
    """The draws of one row in one epoch: the same on whichever worker, and in a run that was resumed."""
    return np.random.default_rng((seed, epoch, row))


def facing(heading: float, view: int, num_views: int) -> str:
    """Where a view faces: north from 315 to 45 degrees, east up to 135, south up to 225, west up to 315."""
    degrees = (heading + 360 / num_views * view) % 360
    return "north" if degrees > 315 or degrees <= 45 else COMPASS[int(np.ceil((degrees - 45) / 90))]


def _above(threshold: float, rng: np.random.Generator) -> bool:
    return bool(rng.random() > threshold)


def _place(start: str, scene: Scene, town: str, region: str) -> str:
    parts = [start]
    if town:
        parts.append(f"close to the town of {town}")
    if region:
        parts.append(f"in the region of {region}")
    if scene.country:
        parts.append(f"in {scene.country}")
    return f"{' '.join(parts)}."


def _climate(scene: Scene) -> str:
    article = "an" if scene.climate[:1] in ("a", "e", "i", "o") else "a"
    return f"This location has {article} {scene.climate} climate." if scene.climate else ""


def _drives(scene: Scene) -> str:
    side = scene.drive_side
    return f"In this location, people drive on the {side} side of the road." if side else ""


def _facing(scene: Scene) -> str:
    if scene.heading is None:
        return ""
    return f"This photo is facing {facing(scene.heading, scene.view, scene.num_views)}."


def _month(scene: Scene) -> str:
    return "" if scene.month is None else f"This photo was taken in {calendar.month_name[scene.month]}."
