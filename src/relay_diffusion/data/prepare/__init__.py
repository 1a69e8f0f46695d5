"""Pictures for training checked, encoded once, and kept as shards: ``relay prepare``."""
