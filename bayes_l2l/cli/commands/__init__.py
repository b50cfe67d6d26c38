"""The commands, a file for each family; they import what is slow to import when they run."""
