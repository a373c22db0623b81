"""The pages for people: static files on the public REST calls, nothing kept in the server."""
