"""`python -m cada_jax.config` prints every field of the configuration as a Markdown table."""

from cada_jax.config.reference import describe_fields

if __name__ == "__main__":
    print(describe_fields())
