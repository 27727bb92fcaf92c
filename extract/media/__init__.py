"""Sound, pictures and faces out of media files."""
