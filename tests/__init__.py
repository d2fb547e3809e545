"""Tests, one folder per room. `tests.rabbitmq` gives them one private RabbitMQ."""
