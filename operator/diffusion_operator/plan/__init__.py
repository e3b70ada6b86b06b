"""Decisions: facts and the time go in, a Plan comes out, and nothing else happens."""
