"""Full-text search over documents that never change, for environments in which an agent looks things up."""
