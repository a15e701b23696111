"""How long bodies of entries are kept, what keeps them longer, and what is left of them."""
