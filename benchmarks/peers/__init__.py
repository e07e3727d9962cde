"""Programs that do the same work as Veduta with other tools."""
