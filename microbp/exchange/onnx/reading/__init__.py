"""Reads the parts of ONNX files."""
