"""What to write instead, where a user's function fails."""
