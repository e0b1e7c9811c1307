"""edgekit: from a Keras model to proven, profiled, packed files for edge devices."""

__version__ = "0.1.0"
