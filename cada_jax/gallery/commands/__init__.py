"""The commands of the gallery: one module each, with a `main(argv) -> exit code`."""
