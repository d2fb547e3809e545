"""How good a model is, from labels and scores."""
