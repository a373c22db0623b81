"""Events of runs: the one log, its pages and streams, and what is read out of it."""
