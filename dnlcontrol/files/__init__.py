"""Bytes on disk, no mathematics."""
