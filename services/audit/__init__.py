"""What a party can prove of a job afterwards: exports of its journal, and what is made of them (docs/audit.md)."""
