"""The press: from notebooks and typed parameters to a checked, executed book."""
