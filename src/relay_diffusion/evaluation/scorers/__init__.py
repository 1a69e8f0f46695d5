"""Learned scorers of pictures, each run as a command of its own.

Their packages break one another, so none is installed beside this one: an adapter runs in an
environment made for it and needs only the standard library and that scorer's package. In goes JSONL
with "prompt" and "path" a line; out comes JSONL, first {"scorer": ..., "version": ...}, then "path"
and "score" a line.
"""
