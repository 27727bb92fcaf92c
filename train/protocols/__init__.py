"""Protocols cut utterances into folds: who trains, who validates, who is tested."""
