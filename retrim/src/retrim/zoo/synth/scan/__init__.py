"""Streets as a laser scanner sees them: shapes, what they make up, where it stands, and the scanner."""
