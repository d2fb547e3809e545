"""Real faults in every stage of a job: whole daemons over a real RabbitMQ, and the model that must not change."""
