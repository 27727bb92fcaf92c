"""Stored runs applied to new utterances: their settings, what they have fitted, and their heads read back."""
