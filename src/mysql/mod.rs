//! What is MySQL's own: GTID sets, statements, connections.
