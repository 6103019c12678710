"""Search by batched products on a GPU, with the decisions of the CPU: what is near is listed there and decided here.

Stored features are on the device as they are stored, and nothing but numbers of rows and scores of a few comes back.
Where the CPU decides by exact products or in float64, so does the device. Each of these also runs on torch's CPU
device, which is how they are tested.

Shapes: N images, P pairs of an image and a block, n rows, C cells, K candidates, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, Int64

PRODUCTS = 2**16  # features of so many rows at a time: 200 MB in float32 at 768-d
COSINES = 2**25  # of a gallery at a time: 270 MB


class DeviceRows:
    """Rows of stored features on a device; which of them are near to images."""

    def __init__(self, codes: np.ndarray, device: str) -> None:
        self._codes = torch.from_numpy(np.array(codes)).to(device)

    def scoring(self, factors: Float32[np.ndarray, "n"] | None, offsets: Float32[np.ndarray, "n"] | None) -> "Scoring":
        """How rows are ranked, of what each row has for that; on the device."""
        return Scoring(*(None if one is None else self._on(np.array(one)) for one in (factors, offsets)))

    def near(
        self,
        queries: Float32[np.ndarray, "N D"],
        images: Int[np.ndarray, "P"],
        blocks: Int[np.ndarray, "P 2"],
        scoring: "Scoring",
        num_rows: int,
        margin: Float32[np.ndarray, "N"],
        within: Int[np.ndarray, "P 2"] | None = None,
    ) -> list[tuple[Int64[np.ndarray, "l"], Int64[np.ndarray, "l"]]]:
        """Pairs, and rows of their blocks whose score is within the margin of the block's ``num_rows``-th smallest.

        ``within`` narrows each pair's block further. Blocks of about the same size are one batch.
        """
        size = blocks[:, 1] - blocks[:, 0]
        found = []
        held = self._on(queries), self._on(margin)
        for pairs in _batches(size):
            spans = np.concatenate([blocks[pairs], blocks[pairs] if within is None else within[pairs]], axis=1)
            image = self._on(images[pairs].astype(np.int64))
            scores, rows = self._scores(held[0][image], self._on(spans.astype(np.int64)), scoring)
            which, column = torch.nonzero(_listed(scores, num_rows, held[1][image]), as_tuple=True)
            found.append((pairs[which.cpu().numpy()], rows[which, column].cpu().numpy()))
        return found

    def _scores(
        self, queries: torch.Tensor, spans: torch.Tensor, scoring: "Scoring"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and numbers of the rows of blocks, one beside the other; inf behind a block's end and outside."""
        start, stop, first, last = (column[:, None] for column in spans.T)
        rows = start + torch.arange(int((stop - start).max()), device=start.device)
        outside = (rows >= stop) | (rows < first) | (rows >= last)
        rows = rows.clamp(max=len(self._codes) - 1)
        step = max(1, PRODUCTS // len(rows))
        products = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
        for at in range(0, rows.shape[1], step):
            part = self._codes[rows[:, at : at + step]].float()  # a copy already
            products[:, at : at + step] = part.mul_(queries[:, None]).sum(dim=2)  # bmm's may be TF32's, by a setting
        return scoring.scores(products, rows).masked_fill_(outside, torch.inf), rows

    def _on(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._codes.device)


@dataclass(frozen=True)
class Scoring:
    """What makes scores of products, by row: they are negated and multiplied by factors, and offsets are added."""

    factors: torch.Tensor | None
    offsets: torch.Tensor | None

    def scores(self, products: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The scores of products with these rows, in the products' place."""
        if self.factors is not None:
            products *= self.factors[rows]
        products.neg_()
        return products if self.offsets is None else products.add_(self.offsets[rows])


def _batches(size: Int[np.ndarray, "P"]) -> Iterator[Int64[np.ndarray, "p"]]:
    """The pairs whose block isn't empty, the largest first, as many at a time as fill ``PRODUCTS`` rows."""
    order = np.argsort(-size, kind="stable")
    order, at = order[size[order] > 0], 0
    while at < len(order):
        count = max(1, PRODUCTS // int(size[order[at]]))
        yield order[at : at + count]
        at += count


def _listed(scores: torch.Tensor, num_rows: int, margin: torch.Tensor) -> torch.Tensor:
    """Which scores are within the margin of the k-th smallest of their row; all that are finite where there is none."""
    if num_rows >= scores.shape[1]:
        return scores < torch.inf
    kth = torch.topk(scores, num_rows, dim=1, largest=False).values[:, -1:]
    return scores <= (kth + margin[:, None]).clamp(max=torch.finfo(torch.float32).max)


class DeviceProducts:
    """Products with weights in float64 on a device."""

    def __init__(self, weights: Float64[np.ndarray, "D C"], device: str) -> None:
        self._weights = torch.from_numpy(np.array(weights)).to(device)

    def __call__(self, features: Float64[np.ndarray, "N D"]) -> torch.Tensor:
        """Products (N, C), on the device."""
        return torch.from_numpy(np.ascontiguousarray(features)).to(self._weights.device) @ self._weights


class DeviceHead:
    """The geocell head on a device: ``index.refine.rank_cells`` of its logits."""

    def __init__(self, weight: Float64[np.ndarray, "D C"], bias: Float32[np.ndarray, "C"], device: str) -> None:
        self._products = DeviceProducts(weight, device)
        self._bias = torch.from_numpy(np.array(bias, np.float64)).to(device)

    def rank(
        self, features: Float32[np.ndarray, "N D"], num_cells: int, temperature: float
    ) -> tuple[Int64[np.ndarray, "N K"], Float32[np.ndarray, "N K"]]:
        """The most probable cells and their probabilities among all, most probable first, of equal ones the first."""
        logits = self._products(features.astype(np.float64)) + self._bias
        order = torch.sort(logits, dim=1, descending=True, stable=True).indices[:, :num_cells]
        probability = torch.softmax(logits / temperature, dim=1).gather(1, order)
        return order.cpu().numpy(), probability.float().cpu().numpy()


class DeviceGallery:
    """A gallery's features on a device, as they are stored: the best of each image by exact products."""

    def __init__(self, features: np.ndarray, device: str) -> None:
        self._features = torch.from_numpy(np.array(features)).to(device)

    def best(
        self, queries: Float64[np.ndarray, "N D"], shift: float | None, count: int, scale: float
    ) -> tuple[
        Int64[np.ndarray, "N K"], Float64[np.ndarray, "N K"], Float64[np.ndarray, "N 1"], Float64[np.ndarray, "N 1"]
    ]:
        """Rows of the largest cosines, ascending, of equal ones the first, and what ``gallery.Ranking`` has of them.

        With ``shift`` the features are rounded to fixed point by it (see ``index.gallery``).
        """
        held = torch.from_numpy(queries).to(self._features.device)
        rows = torch.empty((len(held), 0), dtype=torch.int64, device=held.device)
        cosine = torch.empty((len(held), 0), dtype=torch.float64, device=held.device)
        peak = torch.full((len(held), 1), -torch.inf, dtype=torch.float64, device=held.device)
        total = torch.zeros_like(peak)
        step = max(1, COSINES // max(queries.shape))  # few images have many features, which are as large in float64
        for start in range(0, len(self._features), step):
            places = self._features[start : start + step].double()
            if shift is not None:
                places = (places + shift) - shift
            new = held @ places.T
            columns = _largest(new, count)
            rows = torch.cat([rows, columns + start], dim=1)
            cosine = torch.cat([cosine, new.gather(1, columns)], dim=1)
            kept = _largest(cosine, count)
            rows, cosine = rows.gather(1, kept), cosine.gather(1, kept)
            before, peak = peak, cosine.amax(dim=1, keepdim=True)
            total = total * torch.exp(scale * (before - peak))
            total += new.sub_(peak).mul_(scale).exp_().sum(dim=1, keepdim=True)
        found = rows, cosine, peak, total
        return tuple(one.cpu().numpy() for one in found)  # type: ignore[return-value]


def _largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Columns of the largest values of each row, ascending; of equal values the first ones."""
    n, width = values.shape
    if width <= count:
        return torch.arange(width, device=values.device).expand(n, width)
    last = torch.topk(values, count, dim=1).values[:, -1:]
    above, tied = values > last, values == last
    room = count - above.sum(dim=1, keepdim=True)
    chosen = above | (tied & (tied.cumsum(dim=1) <= room))
    return torch.nonzero(chosen)[:, 1].reshape(n, count)
