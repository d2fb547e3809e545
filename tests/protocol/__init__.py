"""Who says what when: the machines and their tables, contracts, policies, and documents made from them."""
