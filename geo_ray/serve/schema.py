"""What the HTTP interface answers, as pydantic models: they are also its OpenAPI documentation."""

from math import isnan
from typing import Any

from pydantic import BaseModel, Field

from geo_ray.models.bundle import Bundle
from geo_ray.pipeline.columns import ADDRESS, ANSWER, Batch


class BundleInfo(BaseModel):
    """Which bundle answered, and what it is for."""

    ref: str = Field(description="Name of the bundle, without the folder or address it was read from")
    fingerprint: str = Field(description="Changes with anything that can change an answer")
    description: str = Field(description="Which images the bundle is for")


class Candidate(BaseModel):
    """One of the places that were considered."""

    cell_id: str
    probability: float | None = Field(description="Of this candidate, 0 to 1; null as that of the answer")
    latitude: float = Field(description="Degrees north, WGS 84")
    longitude: float = Field(description="Degrees east, WGS 84")
    address: str | None = Field(default=None, description="The sub-street in words; null but of bundles of addresses")
    street: str | None = Field(default=None, description="Its main street")
    neighbourhood: str | None = Field(default=None, description="Its neighbourhood")


class Location(BaseModel):
    """Where the image was probably taken."""

    request_id: str = Field(description="Made by the server for this request; not derived from the image or its name")
    latitude: float = Field(description="Degrees north, WGS 84")
    longitude: float = Field(description="Degrees east, WGS 84")
    cell_id: str = Field(description="Geocell of the answer")
    probability: float | None = Field(description="That the image is of this geocell, 0 to 1; null where the image is "
                                      "unlike all that the bundle was calibrated on")  # fmt: skip
    region_probability: float | None = Field(description="That it is of the answer's region")
    country_probability: float | None = Field(description="That it is of the answer's country")
    radius_km_50: float | None = Field(description="The true place is within this distance in half of all cases; null "
                                       "where the bundle is not calibrated, or the image is unlike")  # fmt: skip
    radius_km_90: float | None = Field(description="The same for nine of ten cases")
    unlike: float | None = Field(description="Share of the known kind of images, by place, that are as unlike the "
                                 "others as this one; where it is small nothing else is stated")  # fmt: skip
    country: str = Field(description="ISO 3166-1 alpha-2 code of the nearest known place; empty where unknown")
    region: str = Field(description="First-order division of the nearest known place; empty where unknown")
    place: str = Field(description="Name of the nearest known place; empty where unknown")
    address: str | None = Field(default=None, description="The sub-street in words; null but of bundles of addresses")
    street: str | None = Field(default=None, description="Its main street")
    neighbourhood: str | None = Field(default=None, description="Its neighbourhood")
    candidates: list[Candidate] = Field(description="Alternatives, most probable first")
    bundle: BundleInfo


class Problem(BaseModel):
    """Why there is no answer."""

    request_id: str = Field(description="Made by the server for this request")
    problem: str = Field(description="empty, undecodable, too_large, no_answer, bad_request or unsupported_media_type")
    message: str = Field(description="The same for a person")


class Health(BaseModel):
    """That the server is up, and with what."""

    status: str = Field(description="ok")
    bundle: BundleInfo


def bundle_info(bundle: Bundle) -> BundleInfo:
    """What clients may know of a bundle: the last part of its name, because the rest is the server's file system."""
    ref = bundle.ref.rstrip("/").rsplit("/", 1)[-1]
    return BundleInfo(ref=ref, fingerprint=bundle.fingerprint, description=bundle.description)


def location(request_id: str, row: Batch, bundle: BundleInfo) -> Location:
    """The answer in a batch of one healthy row, number for number."""
    known_columns = [column.name for column in (*ANSWER, *ADDRESS) if column.name in row]
    values = {name: row[name].tolist()[0] for name in known_columns if name in Location.model_fields}
    known: dict[str, Any] = {
        name: None if isinstance(value, float) and isnan(value) else value for name, value in values.items()
    }
    return Location(request_id=request_id, bundle=bundle, **known)
