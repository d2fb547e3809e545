"""Tests. A folder for each room of the house, and one for each promise that needs several rooms.

`tests/<room>` holds what a room promises by itself; whole systems are in `attacks`, `chaos`, `endurance`, `migration`,
`privacy`, `replay` and `simulation`, what people see in `client`, `console` and `documents`. Each folder says in its
first line what it promises. `tests.rabbitmq` gives them one private RabbitMQ, `tests.postgres` a PostgreSQL,
`tests.proxy` a line that can be cut, `tests.parties` parties with daemons.
"""
