"""A vision-language model writes the long captions that the networks are trained on.

CogView3 (arXiv:2403.05121), section 3.1 and appendix B: a model is shown a picture with its
original caption and asked for a fuller description; 95% of the captions in training are such.
"""
