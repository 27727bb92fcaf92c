"""Stored runs: their folders, what they rest on, and what killed processes leave."""
