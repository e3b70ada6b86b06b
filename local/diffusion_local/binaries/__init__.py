"""The programs of the control plane: found, downloaded or built, and kept under a content hash."""
