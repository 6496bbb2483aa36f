//! What should be done about what was seen. Pure: no client, no tokio, no mysql_async, no clock.
