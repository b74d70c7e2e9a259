"""One file for each neighbour; each imports its neighbour only when it is used."""
