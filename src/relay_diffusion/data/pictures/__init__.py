"""Training on real pictures: folders, WebDataset shards, parquet and Arrow tables."""
