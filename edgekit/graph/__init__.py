"""Readers of model files: .tflite, .onnx and OpenVINO IR to one format-neutral graph."""
