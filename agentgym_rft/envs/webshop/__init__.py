"""A web shop in text: search, look, choose options, buy. Compatible with the original WebShop."""
