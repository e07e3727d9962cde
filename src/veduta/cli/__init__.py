"""The command line: one thin file a command; each parses, calls the rooms and prints."""
