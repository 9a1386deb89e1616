"""What one client of the load test asks; locust runs it, see `serve_load`.

The environment says how: CADA_RERANK, pictures to re-rank; CADA_TOKEN, if the server needs one.
"""

import os
import random

import locust

COLOURS = "black white grey red blue green yellow brown pink orange purple".split()
GARMENTS = ["coat", "jacket", "t-shirt", "hooded jacket", "shirt", "dress", "sweater"]
BELOW = ["trousers", "jeans", "shorts", "skirt", "leggings"]
CARRIED = ["backpack", "handbag", "suitcase", "umbrella", "shopping bag", "phone"]


def description(draw: random.Random) -> str:
    """A sentence of 10 to 20 words about a person."""
    person = draw.choice(["a man", "a woman", "a person"])
    parts = [f"{person} in a {draw.choice(COLOURS)} {draw.choice(GARMENTS)}"]
    if draw.random() < 0.8:
        parts.append(f"and {draw.choice(COLOURS)} {draw.choice(BELOW)}")
    if draw.random() < 0.6:
        parts.append(f"with a {draw.choice(COLOURS)} {draw.choice(CARRIED)}")
    return " ".join(parts)


class Searcher(locust.FastHttpUser):
    """Asks one description after the other, without a pause."""

    wait_time = locust.constant(0)

    def on_start(self) -> None:
        """Every client has words of its own; the run is the same each time."""
        self.draw = random.Random(
            self.environment.runner.user_count if self.environment.runner else 0
        )
        token = os.environ.get("CADA_TOKEN")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    @locust.task
    def search(self) -> None:
        """One search; an answer of another status, or without results, is an error."""
        fields = {"q": description(self.draw), "k": 10, "rerank": os.environ["CADA_RERANK"]}
        with self.client.get(
            "/api/search", params=fields, headers=self.headers, name="search", catch_response=True
        ) as answer:
            if answer.status_code == 200 and not answer.json()["results"]:
                answer.failure("no results")
