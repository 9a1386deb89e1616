"""What an instruction of a compiled program is for: the part of the model, and the kind of work.

Both are read off the path that JAX gives an operation, "jit(step)/jvp(CADA.decode)/text_encoder/
layers/attn/query/dot_general", and off what a fusion holds.
"""

import collections
import re

from tools.device import hlo
from tools.device.costs import PRODUCT_CALLS, call_target

PARTS = (
    "image encoder",
    "text encoder",
    "decoder",
    "attribute decoder",
    "vocabulary",
    "optimizer",
    "rest",
)
KINDS = (
    "products of attention",
    "other products",
    "attention between its products",
    "norms",
    "bias gradients",
    "scan stacking",
    "optimizer",
    "vocabulary",
    "copies, converts, broadcasts",
    "random bits",
    "other",
)
PRODUCTS = {"convolution", "dot"}
# What moves or repeats numbers and computes none.
_MOVES = {"copy", "convert", "broadcast", "transpose", "reshape", "bitcast", "slice", "pad"}
_MOVES |= {"concatenate", "parameter", "constant", "tuple", "get-tuple-element", "iota", "fusion"}
_MOVES |= {"copy-start", "copy-done", "bitcast-convert", "reverse", "custom-call"}
_STACKS = {"dynamic-slice", "dynamic-update-slice"}
_RANDOM = re.compile(r"threefry|random_bits|_uniform|bernoulli|rng_bit|randint|RowNumbers")
_NORM = re.compile(r"(^|/)\w*norm\d*(/|$)")
_ATTENTION = re.compile(r"/(attn|cross)/|attention")
_MAPS = re.compile(r"/(query|key|value|out|fc1|fc2)/")
# The training step does its arithmetic outside of the model for the update and the gradient's norm.
_UPDATE = re.compile(
    r"^jit\(step\)/(?:(?:optimizer|shard_map)/)*(add|sub|mul|div|neg|sqrt|rsqrt|square|pow|integer_pow|reduce_sum"
    r"|convert_element_type|broadcast_in_dim)$"
)
_INTEGERS = re.compile(r"^\(?(u8|pred|s32|u32)\[")
_MODEL_PARTS = (
    ("attribute decoder", re.compile(r"attribute_decoder|decode_masked")),
    ("image encoder", re.compile(r"encode_image|image_encoder|vision_proj|project_image")),
    ("decoder", re.compile(r"CADA\.decode\b|match_packed|match_groups|itm_head|itm_local_head")),
    ("text encoder", re.compile(r"encode_text|text_proj|project_text|text_encoder")),
)
_VOCABULARY = re.compile(r"word_embed|masked_logits|/head/|predict_masked")


def path_of(module: hlo.Module, instruction: hlo.Instruction) -> str:
    """The path an instruction was made for: its own, its product's, or what it mostly fuses."""
    fused = list(module.fused(instruction))
    products = [i.op_name for i in fused if i.opcode in PRODUCTS and i.op_name]
    if products:
        return products[0]
    if instruction.op_name:
        return instruction.op_name
    names = collections.Counter(i.op_name for i in fused if i.op_name)
    return names.most_common(1)[0][0] if names else ""


def part_of(path: str, around: str, result: str, vocabulary: int) -> str:
    """Which of `PARTS` an operation belongs to.

    Args:
      path: of the operation.
      around: that of the loop or condition it stands in, for what has no path of its own.
      result: shapes that it gives, as text.
      vocabulary: words of the model; a result of so many rows or columns is of the vocabulary.
    """
    if _UPDATE.match(path) and not _INTEGERS.match(result):
        return "optimizer"
    padded = -(-vocabulary // 8) * 8  # as a GPU's products take it
    if re.search(rf"[\[,](?:{vocabulary}|{padded})[\],]", result):
        return "vocabulary"
    for text in (path, around):
        if _VOCABULARY.search(text):
            return "vocabulary"
        for part, pattern in _MODEL_PARTS:
            if pattern.search(text):
                return part
    # Losses take the logits some masked places at a time; nothing else of the step loops there.
    if re.search(r"jvp\(\)\)?/while", path):
        return "vocabulary"
    return "rest"


def is_backward(path: str) -> bool:
    """Whether it belongs to the backward pass, what is computed again for it included."""
    return "transpose(" in path or "rematted_computation" in path


def kind_of(module: hlo.Module, instruction: hlo.Instruction, path: str, part: str) -> str:
    """Which of `KINDS` an instruction is that the compiler has an estimate of."""
    fused = list(module.fused(instruction))
    opcodes = {i.opcode for i in fused} | {instruction.opcode}
    if part in ("vocabulary", "optimizer"):
        return part
    if opcodes & PRODUCTS or call_target(instruction) in PRODUCT_CALLS:
        return "products of attention" if _ATTENTION.search(path) else "other products"
    if _RANDOM.search(path):
        return "random bits"
    # What a loop over layers takes from a stack or puts there; a loop may have been unrolled.
    heads = {i.opcode for i in fused if i.root} | {instruction.opcode}
    stacks = heads & _STACKS or "dynamic-update-slice" in instruction.name
    if part != "rest" and (stacks or opcodes <= _MOVES | _STACKS and opcodes & _STACKS):
        return "scan stacking"
    if opcodes <= _MOVES | _STACKS:
        return "copies, converts, broadcasts"
    if _NORM.search(path):
        return "norms"
    if _MAPS.search(path) and path.endswith("/reduce_sum"):
        return "bias gradients"
    if _ATTENTION.search(path) and not _MAPS.search(path):
        return "attention between its products"
    return "other"
