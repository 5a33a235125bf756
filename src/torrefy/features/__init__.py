"""Features of pictures: extraction to arrays, and what is learned from those."""
