"""Networks: built, opened, and seen as the functions that the mathematics needs."""
