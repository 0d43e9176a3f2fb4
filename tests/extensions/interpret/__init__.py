"""Tests of extensions/interpret/."""
