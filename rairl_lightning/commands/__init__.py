"""The commands that use a trained reward; one module each, with one function of the command's name."""
