"""Models over REST: folders below the operator's roots and hub repositories on the operator's list, registered by name."""
