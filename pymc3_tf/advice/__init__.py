"""Texts that say what to write instead, if a user's function fails."""
