"""The student edition: the project without its solutions."""
