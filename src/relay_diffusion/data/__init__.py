"""Data: the generated scene world, and what turns pictures into training batches."""
