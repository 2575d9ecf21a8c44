"""From encoded images to part features: decoding, batching, one thread a session."""
