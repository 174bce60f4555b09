"""What the package needs from the machine: safe files, signals, threads, and a cache."""
