"""The papers' trainings, with their settings and the hardware they were published for.

PIGEON and PIGEOTTO: arXiv 2307.05845, tables 4 to 6. StreetCLIP: arXiv 2302.00275 and its model card. AddressCLIP:
arXiv 2407.08156. Where paper and
code differ the paper's value stands and the code's is named beside it.
"""

from geo_ray.cells.semantic import PARAMETERS
from geo_ray.index.prototypes import CLUSTERINGS
from geo_ray.train.address_task import AddressConfig
from geo_ray.train.cell_task import CellConfig
from geo_ray.train.chain import ChainConfig
from geo_ray.train.clip_task import ClipConfig

CLIP_L_336 = "openai/clip-vit-large-patch14-336"


def pigeon_clip() -> ClipConfig:
    """PIGEON's pretraining on street images: 4 A100 of 80 GB, 32 pairs each, 8 accumulated.

    Code: 20 epochs, warm-up 0.2 of all steps. The contrast is among 32 pairs, as there; ``reference_size=0`` contrasts
    all 1,024.
    """
    return ClipConfig(
        checkpoint=CLIP_L_336, captions="pigeon", epochs=3.0, batch_size=1024, accumulation=8, reference_size=32,
        learning_rate=1e-6, weight_decay=1e-3, betas=(0.9, 0.98), eps=1e-6, schedule="linear", warmup_share=0.2 / 3,
        seed=42, recompute=True, checkpoint_every=250, validate_every=500,
    )  # fmt: skip


def pigeotto_clip() -> ClipConfig:
    """PIGEOTTO's pretraining on photos of anything: 4 A100 of 80 GB. Code: 4 epochs, warm-up 0.02 of all steps."""
    return ClipConfig(
        checkpoint=CLIP_L_336, captions="pigeotto", epochs=2.0, batch_size=1024, accumulation=8, reference_size=32,
        learning_rate=5e-7, weight_decay=1e-3, betas=(0.9, 0.98), eps=1e-6, schedule="linear", warmup_share=0.02 / 2,
        seed=42, num_views=1, recompute=True, checkpoint_every=250, validate_every=500,
    )  # fmt: skip


def streetclip() -> ClipConfig:
    """StreetCLIP: 3 A100 of 80 GB, 32 pairs each, 12 accumulated, 3 epochs. Its schedule isn't published."""
    return ClipConfig(
        checkpoint=CLIP_L_336, captions="streetclip", epochs=3.0, batch_size=1152, accumulation=12,
        learning_rate=1e-6, weight_decay=1e-3, betas=(0.9, 0.98), eps=1e-6, schedule="linear", warmup_share=0.02,
        recompute=True, checkpoint_every=250, validate_every=500,
    )  # fmt: skip


def addressclip() -> AddressConfig:
    """AddressCLIP: 8 V100, 32 pairs each, 100 epochs, both towers (arXiv 2407.08156, section 5.1).

    The geography loss in the form that the paper describes, and all images of an address right for it;
    ``--set geography=quoted --set positives=own`` is as the paper's formulas are quoted.
    """
    return AddressConfig(
        checkpoint="openai/clip-vit-base-patch16", epochs=100.0, batch_size=256, learning_rate=2.4e-5,
        weight_decay=0.0, betas=(0.9, 0.98), eps=1e-6, schedule="cosine", warmup_share=0.0, final_share=1e-3,
        checkpoint_every=1000, validate_every=2000,
    )  # fmt: skip


def pigeon_head(**changes: object) -> CellConfig:
    """The head's training on features: 1 A100, batch 256, AdamW 2e-5, until validation is best; epochs are ours."""
    settings: dict[str, object] = {
        "epochs": 100.0, "batch_size": 256, "learning_rate": 2e-5, "weight_decay": 0.01, "schedule": "constant",
        "warmup_share": 0.0, "tau_km": 75.0, "covariates": False, "precision": "fp32", "validate_every": 400,
        "log_every": 100,
    } | changes  # fmt: skip
    return CellConfig(**settings)  # type: ignore[arg-type]


def pigeon() -> ChainConfig:
    """PIGEON on Street View panoramas of four images a place; ``--set checkpoint=`` takes what pigeon-clip made."""
    return ChainConfig(
        checkpoint=CLIP_L_336, head=pigeon_head(), cells=PARAMETERS["pigeon"], num_views=4,
        preset="pigeon", clustering=CLUSTERINGS["pigeon"],
    )  # fmt: skip


def pigeotto() -> ChainConfig:
    """PIGEOTTO on single photos of anything. Prototypes: the paper's 10 a cluster; code 100."""
    return ChainConfig(
        checkpoint=CLIP_L_336, head=pigeon_head(tau_km=65.0, photo_offsets=True),
        cells=PARAMETERS["pigeotto"], preset="pigeotto",
        clustering=CLUSTERINGS["pigeotto"],
    )  # fmt: skip
