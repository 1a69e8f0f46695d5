"""Measures of pictures: distances between sets of them, and how well one fits its text."""
