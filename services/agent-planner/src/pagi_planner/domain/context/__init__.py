"""What a model is given to read: the messages and files of a run, fitted to a window."""
