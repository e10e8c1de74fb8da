"""One module for each client."""
