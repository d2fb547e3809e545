"""What is said: schemas, codec, envelope, seal, chunk streams, routing keys."""
