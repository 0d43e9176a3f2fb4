"""What the course asks to be written by hand once; nothing of the project is built on it."""
