"""Captions in training: drawn alike wherever a row is, and judged by what is true of an image."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geo_ray.atlas.climate import ZONES
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.published import encoder_spec
from geo_ray.recipes.smoke import write_fresh_clip
from geo_ray.train.caption_samplers import SAMPLERS, Scene, rng_of, said_of, streetclip, template_sampler
from geo_ray.train.clip_task import CaptionedBatch, ClipConfig, ClipTask, scenes_of, validation_rows
from geo_ray.train.loop import Worker, run_steps
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import RunFolder
from tests.models.checkpoint_files import TINY, write_hugging_face
from tests.processes import run_processes
from tests.train.tables import image_table

CONFIG = ClipConfig(captions="pigeon", batch_size=8, num_validation=8, precision="fp32")
KNOWN = ("country", "region", "town", "climate", "drive_side", "month", "heading", "view", "place")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return read_checkpoint(write_hugging_face(tmp_path_factory.mktemp("clip") / "c", TINY))


@pytest.fixture(scope="module")
def rows(tmp_path_factory, checkpoint):
    return validation_rows(image_table(tmp_path_factory.mktemp("table") / "t"), KNOWN, 8, encoder_spec(checkpoint))


def test_scenes_say_what_is_known_alone(rows):
    scenes = scenes_of(rows, 4)
    assert (scenes[2].country, scenes[2].town, scenes[3].drive_side) == ("the Netherlands", "Utrecht", "left")
    assert (scenes[0].climate, scenes[1].climate) == ("", list(ZONES.values())[1])
    assert [scene.month for scene in scenes[:3]] == [None, 2, 3]
    assert [scene.heading for scene in scenes[:3]] == [0.0, None, 2.0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_caption_says_nothing_but_what_is_true(name):
    scene = Scene(
        country="Chad", region="Lac", town="Bol", climate="hot desert", drive_side="right", month=5, heading=100.0
    )
    for row in range(200):
        caption = SAMPLERS[name](scene, rng_of(1, 0, row))
        said = [fact for fact, is_said in zip(scene.facts(), said_of(scene, caption), strict=True) if is_said]
        assert said
        assert len(caption) >= sum(map(len, said))
    assert said_of(Scene(), "") == (False,) * 7


def test_captions_of_ones_own():
    scene = Scene(country="Chad", town="Bol", month=5)
    sample = template_sampler("In {month}, {town}, {country}. | Seen in {country} | {region}!")
    drawn = {sample(scene, rng_of(0, 0, row)) for row in range(50)}
    assert drawn == {"In May, Bol, Chad.", "Seen in Chad"}
    assert said_of(scene, "In May, Bol, Chad.") == (True, False, True, False, False, False, True)
    assert said_of(scene, "Seen in Chad") == (False, False, True, False, False, False, False)
    assert template_sampler("{region}!")(scene, rng_of(0, 0, 0)) == streetclip(scene, rng_of(0, 0, 0))
    with pytest.raises(ValueError, match=r"names \['street'\]; there are town, region"):
        ClipConfig(template="{street}")


def test_a_rows_captions_depend_on_seed_epoch_and_row_alone(checkpoint, rows):
    task = ClipTask(CONFIG, checkpoint, rows)
    whole = task.batch_of(rows)
    backwards = task.batch_of({name: column[::-1] for name, column in rows.items()})
    assert (backwards.tokens.flip(0) == whole.tokens).all()
    other = task.batch_of(rows | {"epoch": rows["epoch"] + 1})
    assert (other.tokens != whole.tokens).any()


def test_pairs_are_their_own_or_all_that_is_true(checkpoint, rows):
    subsumed = ClipTask(CONFIG, checkpoint, rows).batch_of(rows)
    assert (subsumed.said[subsumed.said != 0] == subsumed.true[subsumed.said != 0]).all()
    assert (subsumed.said == 0).any()
    own = ClipTask(ClipConfig(**vars(CONFIG) | {"positives": "own"}), checkpoint, rows).batch_of(rows)
    assert (own.true == own.said).all()
    assert len(own.true.unique()) == len(rows["row"])


def test_steps_lower_the_loss_and_validation_counts_what_is_true(checkpoint, rows):
    task = ClipTask(CONFIG, checkpoint, rows)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    batch, losses = task.batch_of(rows), []
    for _ in range(8):
        terms = task.losses(task.model, batch)
        terms["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(terms["total"].item())
    assert losses[-1] < losses[0]
    with torch.inference_mode():
        found = task.validate(task.model)
    assert set(np.unique(found["caption_recall_at_1"])) <= {0.0, 1.0}
    assert len(found["place"]) == len(rows["row"])
    assert task.ids(batch) == [f"image-{48 + row}" for row in range(8)]


def test_settings_that_cannot_be():
    for name in ("batch_size", "num_views", "num_validation"):
        with pytest.raises(ValueError, match=f"{name}=0 must be positive"):
            ClipConfig(**{name: 0})


class Drawn:
    """Joint batches of eight random pairs, of which each worker has its part."""

    def __iter__(self):
        rng = np.random.default_rng(0)
        while True:
            pixels = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
            tokens = rng.integers(1, 49000, (8, 77))
            tokens[:, -1] = 49407
            mine = np.array_split(np.arange(8), world_size())[rank()]
            facts = torch.from_numpy(mine[:, None] + 1)
            yield CaptionedBatch(
                pixels=torch.from_numpy(pixels[mine]), tokens=torch.from_numpy(tokens[mine]), true=facts, said=facts,
                ids=[str(row) for row in mine],
            )  # fmt: skip

    def state(self):
        return {}


class Unvalidated:
    best = ""

    def __init__(self, task):
        self.model, self.losses, self.ids = task.model, task.losses, task.ids

    def validate(self, model):
        return {}


def train_towers(folder, checkpoint, changes):
    config = ClipConfig(num_steps=2, learning_rate=1e-3, precision="fp32", chunk=3, **changes)
    task = Unvalidated(ClipTask(config, read_checkpoint(checkpoint), {"row": np.zeros(0, np.int64)}))
    run_steps(task, Drawn(), config, Worker(device=torch.device("cpu"), folder=RunFolder(folder)))


def test_both_towers_are_trained_in_shards_with_recomputed_activations(tmp_path):
    checkpoint = write_fresh_clip(tmp_path / "clip")
    train_towers(tmp_path / "one", checkpoint, {})
    run_processes(train_towers, 2, tmp_path / "two", checkpoint, {"parallel": "fsdp", "recompute": True})
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=5e-4, msg=name)
