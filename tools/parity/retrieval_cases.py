"""Golden cases of evaluation, metrics, caption annotation, and of two processes."""

import tempfile

import jax
import numpy as np

from cada_jax.common.errors import MissingFileError
from cada_jax.common.files import read_json
from cada_jax.distributed.partitioning import data_sharding, replicated
from cada_jax.network import Network
from cada_jax.objective.objective import loss_terms
from cada_jax.retrieval.encode import encode_gallery, encode_queries
from cada_jax.retrieval.metrics import rank_metrics
from cada_jax.retrieval.rerank import Pairs, match_pairs
from cada_jax.retrieval.search import Retrieved, global_topk
from cada_jax.text.attribute_phrases import annotate
from cada_jax.text.taggers import make_tagger
from cada_jax.text.tokenizer import Tokenizer, clean_caption
from tools.parity.golden import Golden, before_normalising, channels_last
from tools.parity.network_cases import compare_gradients
from tools.parity.table import Table

METRICS = {"R1": "img_r1", "R5": "img_r5", "R10": "img_r10", "mAP": "mAP"}
TIES = "ties: the released sort is unstable; ours, and the reference shown, rank wrong images first"
OFFSET = "the released -100 + similarity rounds nearby similarities together"


def _embed(network: Network, arrays):
    """Gallery and queries through the public functions, in batches that do not divide evenly."""

    def batches(count, **columns):
        size = max(1, count // 2)
        for begin in range(0, count, size):
            yield {name: x[begin : begin + size] for name, x in columns.items()} | {
                "valid": np.ones(min(size, count - begin), bool)
            }

    images = before_normalising(channels_last(arrays["images"]))
    token_ids = arrays["input_ids"].astype(np.int32)
    gallery = batches(len(images), image=images, pid=arrays["img2pid"])
    queries = batches(len(token_ids), token_ids=token_ids, pid=arrays["txt2pid"])
    return (
        encode_gallery(network, gallery, len(images)),
        encode_queries(network, queries, len(token_ids)),
    )


def _match_logits(network: Network, queries, gallery, indices):
    """Match logits [Q,k] of every text with its own k images."""
    texts = np.repeat(np.arange(len(indices)), indices.shape[1])
    pairs = Pairs(queries.token_ids, gallery.tokens, texts, indices.reshape(-1))
    return match_pairs(network, pairs, batch=8).reshape(indices.shape)


def _retrieve(network: Network, queries, gallery, k):
    found = global_topk(queries.embeddings, gallery.embeddings, k, network.mesh)
    return Retrieved(*found, _match_logits(network, queries, gallery, found[0]))


def evaluation(golden: Golden, table: Table):
    """Both retrieval stages: embeddings, the chosen images, re-rank scores, order and metrics."""
    case, arrays, extra = "d_eval", golden.arrays("d_eval"), golden.extra("d_eval")
    network = golden.network(golden.config)
    gallery, queries = _embed(network, arrays)
    table.compare(case, "image_embeds", gallery.embeddings, arrays["image_embeds"])
    table.compare(case, "text_embeds", queries.embeddings, arrays["text_embeds"])
    table.compare(case, "image_feats", gallery.tokens, arrays["image_feats"])
    similarity = queries.embeddings @ gallery.embeddings.T
    table.compare(case, "sims", similarity, arrays["sims"])
    k = arrays["topk_idx"].shape[1]
    found = _retrieve(network, queries, gallery, k)
    table.compare(case, "topk_idx", found.indices, arrays["topk_idx"], "order")
    table.compare(case, "topk_sim", found.similarity, arrays["topk_sim"])
    # Scores of the reference's own top k, so that one swapped neighbour does not shift a row.
    logits = _match_logits(network, queries, gallery, arrays["topk_idx"])
    table.compare(case, "rerank_score", logits, arrays["rerank_score"])
    right = arrays["txt2pid"][:, None] == arrays["img2pid"][None]
    scores = {"itm": (found.indices, found.score), "glb": (None, None)}
    for name, (top, score) in scores.items():
        wanted = arrays[f"score_{name}"]
        rounded = any(len(set(row)) < len(row) for row in wanted)
        if top is not None and score is not None:
            order = np.take_along_axis(top, np.argsort(-score, axis=1, kind="stable"), axis=1)
            theirs = np.argsort(-wanted, axis=1, kind="stable")[:, :k]
            table.compare(case, f"score_{name}: order of the top {k}", order, theirs, "order")
        if not rounded:
            ours = _whole_order(similarity, top, score)
            theirs = np.argsort(-wanted, axis=1)
            table.compare(case, f"score_{name}: order of all", ours, theirs, "order")
        if "metrics" in extra:
            got = rank_metrics(similarity, right, top, score)
            _compare_metrics(table, case, name, got, extra["metrics"][name], rounded, OFFSET)


def _whole_order(similarity, top, score):
    """Gallery indices best first: the top k by score, then the others by similarity."""
    key = similarity.astype(np.float64)
    if top is not None:
        np.put_along_axis(key, top, score.astype(np.float64) + 1e6, axis=1)
    return np.argsort(-key, axis=1)


def _compare_metrics(table, case, name, got, wanted, differs, note):
    for ours, theirs in METRICS.items():
        if differs and not np.isclose(got[ours], wanted[theirs], rtol=0, atol=1e-9):
            table.differs(case, f"{name}/{ours}", got[ours], wanted[theirs], note)
        else:
            # Sums of a few hundred fractions in another order: float64 rounding.
            ours_value, theirs_value = round(got[ours], 9), round(wanted[theirs], 9)
            table.compare(case, f"{name}/{ours}", ours_value, theirs_value, "order")


def metrics(golden: Golden, table: Table):
    """R@k and mAP of given score matrices."""
    case, arrays, extra = "d_metrics", golden.arrays("d_metrics"), golden.extra("d_metrics")
    for name in sorted({name.split("/")[0] for name in arrays}):
        scores = arrays[f"{name}/scores"]
        right = arrays[f"{name}/txt2pid"][:, None] == arrays[f"{name}/img2pid"][None]
        got = rank_metrics(scores, right)
        released = {theirs: float(arrays[f"{name}/{theirs}"]) for theirs in METRICS.values()}
        tied = any(len(set(row)) < len(row) for row in scores)
        _compare_metrics(table, case, name, got, released, tied, TIES)
        if tied and "ties_relevant_last" in extra.get(name, {}):
            bound = extra[name]["ties_relevant_last"]
            _compare_metrics(table, case, f"{name}, wrong first", got, bound, False, "")


def attributes(golden: Golden, table: Table, vocab: str | None = None):
    """Caption cleaning, WordPieces, tags and phrase groups, tagging pieces as the released code."""
    case, arrays = "e_attr", golden.arrays("e_attr")
    path = golden.folder / "e_attr_captions.json"
    if not path.is_file():
        table.absent(case, f"no {path.name} in the folder")
        return
    captions = read_json(path, "captions")["captions"]
    try:
        tagger = make_tagger("nltk")
        tagger.tag(["a", "red", "coat"])
    except (LookupError, MissingFileError, ImportError) as err:
        table.absent(case, f"set NLTK_DATA: {str(err).splitlines()[0][:90]}")
        return
    length = arrays["ids"].shape[1]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        if vocab is None:
            file.write(_vocabulary(captions, arrays["ids"]))
            file.flush()
        tokenizer = Tokenizer(vocab or file.name)
        cleaned = [clean_caption(item["caption"]) for item in captions]
        got = [annotate(text, tokenizer, length, tagger, "wordpiece") for text in cleaned]
        pieces = [tokenizer.split(text)[0] for text in cleaned]
    note = "" if vocab else "vocabulary: the folder's own pieces; --vocab for the whole one"

    def wrong(ours, theirs):
        return [int(a != b) for a, b in zip(ours, theirs, strict=True)], [0] * len(captions)

    table.compare(case, "cleaned captions",
                  *wrong(cleaned, [c["pre_caption"] for c in captions]), "exact")  # fmt: skip
    tags = [tagger.tag(p) for p in pieces]
    for name, ours in (("tokens", pieces), ("pos_tags", tags)):
        theirs = [item[name] for item in captions]
        table.compare(case, name, *wrong(ours, theirs), "exact", note)
    stacked = {name: np.stack([item[name] for item in got]) for name in got[0] if name != "text"}
    table.compare(case, "ids", stacked["token_ids"], arrays["ids"], "exact")
    table.compare(
        case, "eligible_false", stacked["attribute_mask"], arrays["eligible_false"], "exact"
    )
    ours, theirs = stacked["phrase_ids"], arrays["groups_true"]
    table.compare(case, "groups_true", ours[:, :-2], theirs[:, :-2], "exact")
    note = "released: the last word of a caption as long as the limit is in no phrase"
    table.differs(case, "groups_true, last position", ours[:, -2], theirs[:, -2], note)


def _vocabulary(captions, ids) -> str:
    """A vocabulary file with the folder's pieces at their ids; those cut off get free ids.

    Greedy longest matching gives the same pieces as with the whole vocabulary: it finds every
    piece the whole one would take, and has none that is longer.
    """
    entries = {}
    for item, row in zip(captions, ids, strict=True):
        entries |= dict(zip(row[1:-1].tolist(), item["tokens"], strict=False))
    entries |= {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    cut_off = {piece for item in captions for piece in item["tokens"]} - set(entries.values())
    lines = [entries.get(i, f"[unused{i}]") for i in range(max(entries) + 1)]
    return "\n".join(lines + sorted(cut_off)) + "\n"


def two_processes(golden: Golden, table: Table):
    """The same batch split over two devices, and the released code's two processes."""
    case, arrays = "f_world2", golden.arrays("f_world2")
    if len(jax.devices()) < 2:
        table.absent(case, "one device: XLA_FLAGS=--xla_force_host_platform_device_count=2")
        return
    config = golden.config.copy_and_resolve_references()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = 2, 1, 1
    network = golden.network(config, 2)
    mesh = network.mesh
    mask = golden.effective(arrays["mask_raw"], arrays["input_ids"])
    batch = jax.device_put(golden.batch(arrays, mask), data_sharding(mesh))
    params = jax.device_put(golden.params, replicated(mesh))

    (_, whole), grads = _value_and_grad(golden, config)(params, batch)
    ranks = np.stack([arrays["rank0_losses"], arrays["rank1_losses"]])
    mean = ranks.mean(axis=0)
    table.compare(case, "ndf", whole["global"], mean[0], "loss")
    table.compare(case, "itm, mean of ranks", whole["match"] + whole["group"], mean[1], "loss")
    note = "ours: mean over all masked tokens, whatever the number of devices"
    table.differs(case, "ara, mean of ranks", whole["ara"], mean[2], note)

    # With ARA averaged per process, as there, everything agrees: that is the one difference.
    ara_alone = _value_and_grad(golden, config, global_weight=0.0, atp_weight=0.0)
    total = jax.tree.map(lambda a, b: a - b, grads, ara_alone(params, batch)[1])
    host = jax.device_get(batch)
    half = len(host["pid"]) // 2
    for rank, rows in enumerate((slice(None, half), slice(half, None))):
        shard = jax.device_put({n: x[rows] for n, x in host.items()}, replicated(mesh))
        (_, terms), shard_grads = ara_alone(params, shard)
        table.compare(case, f"ara of rank {rank}", terms["ara"], ranks[rank, 2], "loss")
        total = jax.tree.map(lambda a, b: a + b / 2, total, shard_grads)
    compare_gradients(table, case, golden.back(total), arrays)
    names = [name.removeprefix("grad/") for name in arrays if name.startswith("grad/")]
    ours = golden.back(grads)
    mine, released = (
        np.concatenate([np.ravel(x[n]) for n in names]) for x in (ours, _grads(arrays))
    )
    relative = np.linalg.norm(mine - released) / np.linalg.norm(released)
    note = f"the ARA difference in the total gradient: relative norm {relative:.1e}"
    table.differs(case, "gradient, all parameters", mine, released, note)
    if "score_itm_w2" in arrays and golden.has("d_eval"):
        _two_process_scores(golden, network, table, arrays)


def _value_and_grad(golden, config, **weights):
    """A compiled function of (params, batch), with some of `config.loss` changed."""
    config = config.copy_and_resolve_references()
    config.loss.update(weights)

    def loss(params, batch):
        return loss_terms(golden.model, config, params, batch, jax.random.key(0))

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def _grads(arrays):
    return {n.removeprefix("grad/"): x for n, x in arrays.items() if n.startswith("grad/")}


def _two_process_scores(golden, network, table, arrays):
    """Evaluation on two devices: the order of the top k, and its scores without the offset."""
    reference = golden.arrays("d_eval")
    k = reference["topk_idx"].shape[1]
    gallery, queries = _embed(network, reference)
    found = _retrieve(network, queries, gallery, k)
    wanted = arrays["score_itm_w2"]
    order = np.argsort(-found.score, axis=1, kind="stable")
    theirs = np.argsort(-wanted, axis=1, kind="stable")[:, :k]
    ours = np.take_along_axis(found.indices, order, axis=1)
    table.compare("f_world2", f"score_itm_w2: order of the top {k}", ours, theirs, "order")
    got = np.take_along_axis(found.score, order, axis=1) - 100.0
    values = np.take_along_axis(wanted, theirs, axis=1)
    note = "released: two processes add up to an offset of -100"
    table.compare("f_world2", "score_itm_w2: top-k scores", got, values, note=note)
