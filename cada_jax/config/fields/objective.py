"""Fields of what is minimised: the losses, ATP, ARA and the optimizer."""

from cada_jax.config.fields.field import SCORED, Field
from cada_jax.config.kinds import Choice, Flag, Integer, IntegerOrWord, Number

_WEIGHT = Number(0, 1e6)
_MASKED = Number(0, 1, above=True)
_MOMENT = Number(0, 1, below=True)

FIELDS = (
    Field(
        "loss.global",
        "ndf",
        Choice(("ndf", "tal")),
        "global loss. ndf: normalised distribution fitting, as CADA; tal: triplet alignment loss, "
        "as RDE",
        SCORED,
    ),
    Field(
        "loss.scale",
        50.0,
        Number(0, 1e6, above=True),
        "constant that multiplies the cosine similarities of loss.global=ndf",
        SCORED,
    ),
    Field(
        "loss.tal_margin",
        0.1,
        Number(0, 2),
        "cosine by which loss.global=tal wants the own person above all others",
        SCORED,
    ),
    Field(
        "loss.tal_temperature",
        0.015,
        Number(1e-3, 1e3),
        "of loss.global=tal: cosines are divided by it",
        SCORED,
    ),
    Field("loss.global_weight", 1.0, _WEIGHT, "weight of the global loss", SCORED),
    Field("loss.atp_weight", 1.0, _WEIGHT, "weight of ATP; 0: no decoder passes", SCORED),
    Field(
        "loss.group_weight",
        1.0,
        _WEIGHT,
        "weight of the group loss within ATP; MARS takes 2 for its phrases",
        SCORED,
    ),
    Field("loss.ara_weight", 0.1, _WEIGHT, "weight of ARA; 0: no attribute decoder", SCORED),
    Field(
        "loss.alignment",
        "off",
        Choice(("off", "quota_transport")),
        "further loss between words and patches. quota_transport: optimal transport whose "
        "marginals the other side decides, as QC-Align",
        SCORED,
    ),
    Field(
        "loss.alignment_weight",
        0.5,
        Number(0, 1e6, above=True),
        "weight of loss.alignment, where it is not off",
        SCORED,
    ),
    Field(
        "loss.transport_epsilon",
        0.5,
        Number(0.01, 100),
        "weight of the plan's entropy in loss.alignment=quota_transport; a cost is 1 - cosine",
        SCORED,
    ),
    # ATP: association of text tokens to image patches.
    Field(
        "atp.gate",
        "token",
        Choice(("token", "off")),
        "token: a learned gate for each text token; off: no such parameters",
    ),
    Field(
        "atp.negatives",
        "hardest",
        Choice(("hardest", "sampled")),
        "hardest: the most similar one; sampled: with probability softmax(cosine / temperature)",
    ),
    Field("atp.temperature", 0.07, Number(1e-4, 1e4), "temperature of sampled negatives"),
    Field(
        "atp.groups",
        2,
        IntegerOrWord(Integer(1, 2**16), (("phrases", "the attribute phrases of the caption"),)),
        "groups of tokens that the group loss reads: so many consecutive ones of equal size after "
        "position 0, or phrases",
    ),
    Field(
        "atp.group_pool",
        "valid",
        Choice(("valid", "all")),
        "tokens that a group's mean takes; all: [SEP] and padding too, as the released code",
    ),
    # ARA: association of image regions to attribute phrases.
    Field(
        "ara.masking",
        "phrase",
        Choice(("phrase", "token")),
        "phrase: whole phrases are masked; token: the tokens of single words",
    ),
    Field("ara.phrase_rate", 0.8, _MASKED, "probability that a phrase is masked"),
    Field("ara.token_rate", 0.4, _MASKED, "probability that a token is masked"),
    Field(
        "ara.causal",
        True,
        Flag(),
        "whether self-attention of the attribute decoder sees no later token",
    ),
    Field("optimizer.learning_rate", 1e-5, Number(0, 1, above=True), "at the peak", SCORED),
    Field("optimizer.min_learning_rate", 0.0, Number(0, 1), "at the end of the cosine", SCORED),
    Field(
        "optimizer.warmup_steps",
        0,
        Integer(0, 10**6),
        "steps in which the rate grows linearly to what the cosine gives",
        SCORED,
    ),
    Field(
        "optimizer.schedule",
        "epoch",
        Choice(("epoch", "step")),
        "whether the cosine is stepped once an epoch, as the released code does, or every step",
        SCORED,
    ),
    Field("optimizer.b1", 0.9, _MOMENT, "AdamW's decay of the first moment", SCORED),
    Field("optimizer.b2", 0.999, _MOMENT, "AdamW's decay of the second moment", SCORED),
    Field("optimizer.eps", 1e-8, Number(1e-30, 1), "AdamW's addend of the denominator", SCORED),
    Field(
        "optimizer.weight_decay", 0.05, Number(0, 100), "decoupled, times the learning rate", SCORED
    ),
    Field(
        "optimizer.decay",
        "all",
        Choice(("all", "matrices")),
        "parameters that decay: all, or neither biases nor norms",
        SCORED,
    ),
    Field(
        "optimizer.clip_norm",
        0.0,
        Number(0, 1e6),
        "norm of the whole gradient above which it is scaled down; 0: never",
        SCORED,
    ),
)
