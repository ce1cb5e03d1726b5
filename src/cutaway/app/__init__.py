"""The command line and what only it does; no other part of the package prints or parses arguments."""
