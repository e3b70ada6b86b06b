"""The agent API: pods report here, and receive their instructions."""
