"""The only room that opens a socket to the API server."""
