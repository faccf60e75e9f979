"""What people touch: the command line, the server, and how things look."""
