"""Bytes on disk and turns of threads, no mathematics."""
