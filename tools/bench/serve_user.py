"""What one client of the load test asks; locust runs it, see `serve_load`.

The environment says how: CADA_RERANK, pictures to re-rank; CADA_TOKEN, if the server needs one.
"""

import os
import random

import locust

WORDS = "a man woman person in with and black white red blue coat shoes bag hat".split()


class Searcher(locust.FastHttpUser):
    """Asks one description of 10 words after the other, without a pause."""

    wait_time = locust.constant(0)

    @locust.task
    def search(self) -> None:
        """One search; an answer of another status, or without results, is an error."""
        token = os.environ.get("CADA_TOKEN")
        with self.client.get(
            "/api/search",
            params={"q": " ".join(random.choices(WORDS, k=10)), "k": 10}
            | {"rerank": os.environ["CADA_RERANK"]},
            headers={"Authorization": f"Bearer {token}"} if token else {},
            name="search",
            catch_response=True,
        ) as answer:
            if answer.status_code == 200 and not answer.json()["results"]:
                answer.failure("no results")
