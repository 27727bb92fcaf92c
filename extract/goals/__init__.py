"""Streams as goals: what a name says of how a stream is made, and the passes that make several."""
