"""Data sets: pictures held in memory (`lossnoise.data.cifar`) and batches that know their rows."""
