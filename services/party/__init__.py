"""What a party is told from outside: party.toml with its policy, its log lines, the back ends of its machine."""
