"""Training: one loop (``loop``), objectives as functions (``autoencoder``, ``denoising``), one TOML
recipe per run (``recipe``). ``run`` puts them together. Nothing is imported until asked for.
"""
