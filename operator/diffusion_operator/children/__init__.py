"""One builder for each kind of child object: spec and facts go in, a manifest comes out."""
