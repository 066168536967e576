"""Tests of bandoneon; see tests/README.md."""
