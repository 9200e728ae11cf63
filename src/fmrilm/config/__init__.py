"""Options: what they are called, what they may be, and how the original calls them."""
