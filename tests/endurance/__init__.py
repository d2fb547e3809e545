"""Real processes over a real RabbitMQ that die, stall and come back."""
