"""Who says what when: the contract and the pure machines."""
