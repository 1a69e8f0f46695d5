"""The scene world: pictures whose truth is known, generated without end."""
