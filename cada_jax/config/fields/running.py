"""Fields of training, evaluation and the mesh of devices."""

import itertools

from cada_jax.config.fields.data import DATASETS
from cada_jax.config.fields.field import CONTINUED, SCORED, Field
from cada_jax.config.kinds import Choice, Flag, Integer, NameList

STAGES = ("global", "reranked", "match_only")
FIGURES = ("R1", "R5", "R10", "mAP", "mINP")
_METRICS = Choice(
    tuple(f"{stage}/{figure}" for stage, figure in itertools.product(STAGES, FIGURES)),
    f"STAGE/FIGURE of {', '.join(STAGES)} and {', '.join(FIGURES)}",
)
_BATCH = Integer(1, 2**16)
_STEPS = Integer(1, 10**8)
_TOP = Integer(0, 10**6)
_SETS = NameList(DATASETS)
_AXIS = Integer(1, 2**16, also=((-1, "all that remain"),))

FIELDS = (
    Field(
        "train.batch_size",
        120,
        Integer(2, 2**17),
        "image-caption pairs over all devices; the others of a batch are the negatives",
        SCORED,
    ),
    Field(
        "train.accumulation",
        1,
        Integer(1, 2**16),
        "chunks of a batch on a device: less memory, the same gradient",
        CONTINUED,
    ),
    Field("train.epochs", 30, Integer(1, 10**6), "passes over the training pairs", SCORED),
    Field(
        "train.datasets",
        "",
        _SETS,
        "sets mixed for training, as cuhk,rstp; empty: data.name alone",
        SCORED,
    ),
    Field(
        "train.max_steps",
        0,
        Integer(0, 10**8),
        "steps after which the run ends; 0: train.epochs decides",
        SCORED,
    ),
    Field("train.log_every", 50, _STEPS, "steps between two lines of figures", CONTINUED),
    Field(
        "train.eval_every",
        1,
        Integer(0, 10**6),
        "epochs between two evaluations; 0: at the end alone",
        SCORED,
    ),
    Field(
        "train.checkpoint_every",
        500,
        Integer(0, 10**8),
        "steps between two checkpoints, besides one at every evaluation; 0: those alone",
        CONTINUED,
    ),
    Field(
        "train.keep_checkpoints",
        2,
        Integer(1, 10**5),
        "newest checkpoints kept, besides the best",
        CONTINUED,
    ),
    Field(
        "train.profile_start",
        -1,
        Integer(1, 10**8, also=((-1, "never"),)),
        "step at which a profile begins",
        CONTINUED,
    ),
    Field("train.profile_steps", 5, Integer(1, 10**4), "steps of a profile", CONTINUED),
    Field(
        "eval.batch_size",
        128,
        _BATCH,
        "images, and texts, encoded at once over all devices",
        CONTINUED,
    ),
    Field(
        "eval.rerank_top_k",
        128,
        _TOP,
        "images of each text that the decoder scores; 0: stage one only",
        SCORED,
    ),
    Field(
        "eval.rerank_batch",
        256,
        _BATCH,
        "longest texts whose tokens are decoded at once over all devices",
        CONTINUED,
    ),
    Field(
        "eval.mirror",
        False,
        Flag(),
        "whether a match logit is the mean over the image and its mirror image; twice the time",
        SCORED,
    ),
    Field(
        "eval.select",
        "best",
        Choice(("best", "last")),
        "the parameters that are scored and exported: the best by eval.select_metric, or the last; "
        "with a small eval.select_on the best is chance",
        SCORED,
    ),
    Field(
        "eval.select_on",
        "val",
        Choice(("val", "test")),
        "split that chooses the best checkpoint; test is for comparison with the released code",
        SCORED,
    ),
    Field(
        "eval.select_metric",
        "reranked/R1",
        _METRICS,
        "figure that chooses the best checkpoint",
        SCORED,
    ),
    Field(
        "eval.split",
        "test",
        Choice(("train", "val", "test")),
        "split that is scored at the end, and by --mode=eval",
        CONTINUED,
    ),
    Field(
        "eval.before",
        True,
        Flag(),
        "whether eval.split is scored before the first step too, to compare with the end",
        CONTINUED,
    ),
    Field(
        "eval.datasets",
        "",
        _SETS,
        "sets that --mode=eval tests on, as cuhk,icfg; empty: data.name. NAME/VARIANT is one "
        "prepared under other settings than data.variant",
        CONTINUED,
    ),
    Field(
        "eval.track_test",
        False,
        Flag(),
        "whether test is scored too at every evaluation; its best is reported apart",
        SCORED,
    ),
    Field(
        "eval.image_to_text_top_k",
        0,
        _TOP,
        "captions of each image that the decoder scores at the end",
        CONTINUED,
    ),
    Field(
        "eval.save_queries",
        True,
        Flag(),
        "whether queries.jsonl is written: ranks and ten best images of every caption",
        CONTINUED,
    ),
    Field("mesh.data", -1, _AXIS, "devices that share a batch", CONTINUED),
    Field("mesh.fsdp", 1, _AXIS, "devices that share a batch and the parameters", CONTINUED),
    Field("mesh.tensor", 1, _AXIS, "devices that share attention heads and MLPs", CONTINUED),
)
