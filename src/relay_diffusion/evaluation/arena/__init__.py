"""A blind comparison of pictures by people: which follows the prompt better, which is nicer."""
