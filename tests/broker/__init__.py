"""The promises of a transport, held by every one; topology, permissions and deployments on a real RabbitMQ."""
