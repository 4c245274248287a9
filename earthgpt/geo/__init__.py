"""Images of the Earth: reading them, their radiometry, and their features on the map."""
