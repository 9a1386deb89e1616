"""What each part of the method does in a trained model: measurements for `tools.probe`."""
