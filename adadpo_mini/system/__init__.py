"""What a program needs of its machine: files that no kill spoils, signals, threads, a cache."""
