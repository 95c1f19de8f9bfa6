"""Pictures of roads: geometry, ground, scenery, traffic, and what a camera makes of them."""
