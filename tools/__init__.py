"""What serves work on the project; run from the clone, as `python -m tools.bench.versions`."""

import importlib.util
import sys

# Python sets this name while it looks for the module that -m names, and no later.
if sys.argv[:1] == ["-m"] and not all(map(importlib.util.find_spec, ("cada_jax", "jax"))):
    print("error: cada_jax is not installed here: pip install -e '.[dev]'", file=sys.stderr)
    sys.exit(2)
