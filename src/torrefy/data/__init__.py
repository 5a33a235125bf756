"""Pictures and labels, and what is done to them before a net sees them."""
