"""The operator: custom resources are observed, decided upon by pure code, and brought about by a small loop."""
