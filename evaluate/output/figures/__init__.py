"""Figures, one module each, of stored predictions or of a manifest; importing this draws nothing."""
