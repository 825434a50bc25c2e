"""ONNX files, without a library."""
