"""What a terminal shows: phases, the live view, the report, interrupts and the connection to a server."""
