"""Utterances with their labels and streams become masked batches."""
