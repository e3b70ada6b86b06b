"""Model versions as OCI artifacts: pack, verify, open."""
