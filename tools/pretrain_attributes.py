"""First stage of the small shipped model: each encoder learns to name attributes by itself.

    python -m tools.pretrain_attributes runs/attributes

What labelled images and plain text are to BLIP, whose encoders start from ImageNet and BERT: a
linear classifier on [CLS] names what an image shows, another one what a caption states. Encoders
that start from random weights under the global loss settle on which colours there are, whatever
wears them. The labels are the true attributes of the generated persons of `--variant`;
none of them is in the demo. The classifiers are thrown away; the folder that is written is for
--config.init_from.
"""

import sys
from collections.abc import Sequence

from cada_jax.config import load_config
from cada_jax.data.datasets.synthetic.people import VARIANTS
from tools.arguments import Parser, command, folder_to_make


def run(argv: Sequence[str] | None) -> int:
    """Trains as the flags say, writes the model and prints what it can name; the exit code."""
    parser = Parser("tools.pretrain_attributes", __doc__)
    add = parser.add_argument
    add("out", metavar="MODEL", type=folder_to_make, help="model folder to write")
    add("--steps", type=int, default=2500, help="updates (default: %(default)s)")
    add("--variant", default="pretrain", choices=sorted(VARIANTS))
    add("--config", default="synthetic:scratch", help="whose network (default: %(default)s)")
    flags = parser.flags(argv)
    from cada_jax.checkpoints import model  # TensorFlow and JAX take seconds to import
    from cada_jax.common.compilation_cache import enable_compilation_cache
    from cada_jax.common.console import say
    from tools.attribute_training import ATTRIBUTES, pretrain

    config = load_config(flags.config)
    config.data.variant = flags.variant
    model.check_model_target(flags.out)  # before minutes of training
    enable_compilation_cache()
    params, scores, vocab_path = pretrain(config, flags.variant, flags.steps)
    card = {"what": "encoders that name attributes; decoders are random", "accuracy_on_val": scores}
    path = model.save_model(flags.out, params, config, vocab_path, card)
    say(f"{'attribute':16} image   text  (% right on {flags.variant} val)")
    for name in ATTRIBUTES:
        image, text = (f"{scores[side].get(name, '-'):>5}" for side in ("image", "text"))
        say(f"{name:16} {image}  {text}")
    say(f"Written: {path}")
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
