"""The seeds of a model share a row of the table."""

from tools.short_queries import table


def figures(model, r1):
    scores = {"R1": r1, "mAP": 20.0}
    return {
        "model": model,
        "dataset": "synthetic/demo/2.0.0",
        **{"queries": 500, "words": 4.2, "right_images": 36.8, "chance": 3.7},
        **{
            "global": scores,
            "reranked": scores,
            "captions": {"global": scores, "reranked": scores},
        },
    }


def test_models_that_differ_in_their_seed_alone_have_one_row_with_its_spread():
    runs = [figures(f"runs/short-seed{seed}/model", r1) for seed, r1 in ((0, 40.0), (1, 50.0))]
    rows = table([figures("pretrained:synthetic", 30.0), *runs]).splitlines()
    assert rows[2].startswith("| pretrained:synthetic | synthetic/demo/2.0.0 | 30.0 | 30.0 | 20.0")
    assert rows[3].startswith("| runs/short | synthetic/demo/2.0.0 | 45.0 ± 7.1 | 45.0 ± 7.1 | 20")
    assert rows[4] == ""
