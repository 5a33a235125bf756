"""Net to ONNX, checked against the net it came from."""
