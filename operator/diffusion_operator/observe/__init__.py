"""Raw objects and agents' reports become named facts about one custom resource."""
