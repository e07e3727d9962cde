"""The command line: one file a command, which parses its arguments, calls a package and prints."""
