"""emocache: frozen embeddings extracted once, emotion heads trained many times.

The four stages are the four subpackages: `cache` (the feature store), `extract`, `train` and `evaluate`.
"""

__version__ = "0.1.0"
