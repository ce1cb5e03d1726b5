"""Jobs for the peers' environment (`make peers`): each is a function that returns a callable to be timed."""
